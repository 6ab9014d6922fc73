"""From an engine's logits to tokens: greedy search under a family's rules, for any engine.

Feeding one token at a time into a cache is what every runtime does, so the same search drives all of
them and their transcripts can be compared token for token.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sottovoce.models.decoding import Decoded, DecodingRules
from sottovoce.targets.base import Engine, Memory


@torch.inference_mode()
def greedy(engine: Engine, memory: Memory, rules: DecodingRules) -> list[Decoded]:
    """The likeliest token at each step, for each clip of `memory`, until all have ended.

    A clip that has ended is fed its end token, until half of the rows have ended: then they leave the batch, so that
    one clip that loops does not cost what all cost.
    """
    prompt = prompts(engine, memory, rules)
    forbidden = list(rules.suppressed)
    forbidden_first = sorted({*rules.suppressed, *rules.suppressed_first})
    ends = torch.tensor(rules.end, device=prompt.device)
    rows: list[list[int]] = [[] for _ in prompt]
    live = list(range(len(prompt)))  # which clip each row of the batch is
    ended = torch.zeros(len(live), dtype=torch.bool, device=prompt.device)
    feed, cache = prompt, None
    for length in range(rules.most_tokens):
        logits, cache = engine.step(feed, memory, cache)
        logits[:, forbidden if length else forbidden_first] = -torch.inf
        best = torch.where(ended, ends[0], logits.argmax(-1))
        for clip, token in zip(live, best.tolist(), strict=True):
            rows[clip].append(token)
        ended = ended | torch.isin(best, ends)
        going = (~ended).nonzero()[:, 0]
        if not len(going):
            break
        if 2 * len(going) <= len(live):
            memory, cache = engine.branch(memory, cache, going)
            live, best, ended = [live[row] for row in going.tolist()], best[going], ended[going]
        feed = best[:, None]
    return [_cut(begun, row, rules.end) for begun, row in zip(prompt.tolist(), rows, strict=True)]


def _cut(prompt: Sequence[int], row: Sequence[int], ends: Sequence[int]) -> Decoded:
    for i, token in enumerate(row):
        if token in ends:
            return Decoded(tuple(prompt), tuple(row[:i]), capped=False)
    return Decoded(tuple(prompt), tuple(row), capped=True)


@torch.inference_mode()
def prompts(engine: Engine, memory: Memory, rules: DecodingRules) -> Tensor:
    """(n, prompt) int64: the rules' prompt for each clip, its language detected where the rules leave it open."""
    count, device = memory.count, memory.device
    if None not in rules.prompt:
        return torch.tensor([rules.prompt] * count, device=device)
    place = rules.prompt.index(None)
    before = torch.tensor([rules.prompt[:place]] * count, device=device)
    logits, _ = engine.step(before, memory, None)
    candidates = torch.tensor(rules.languages, device=device)
    spoken = candidates[logits[:, candidates].argmax(-1)]
    after = torch.tensor([rules.prompt[place + 1 :]] * count, device=device)
    return torch.cat([before, spoken[:, None], after], 1)
