"""From an engine's logits to tokens: greedy search under a family's rules, for any engine.

Feeding one token at a time into a cache is what every runtime does, so the same search drives all of
them and their transcripts can be compared token for token.
"""

from collections.abc import Sequence

import numpy as np

from sottovoce.models.decoding import Decoded, DecodingRules
from sottovoce.recognition.scores import likeliest, without
from sottovoce.targets.engine import Engine, Memory


def greedy(engine: Engine, memory: Memory, rules: DecodingRules) -> list[Decoded]:
    """The likeliest token at each step, for each clip of `memory`, until all have ended.

    A clip that has ended is fed its end token, until half of the rows have ended: then they leave the batch, so that
    one clip that loops does not cost what all cost.
    """
    prompt = prompts(engine, memory, rules)
    ends = np.array(rules.end)
    rows: list[list[int]] = [[] for _ in prompt]
    live = list(range(len(prompt)))  # which clip each row of the batch is
    ended = np.zeros(len(live), bool)
    feed, cache = prompt, None
    for length in range(rules.most_tokens):
        logits, cache = engine.step(feed, memory, cache)
        best = np.where(ended, ends[0], without(logits, rules.forbidden(length)).argmax(-1))
        for clip, token in zip(live, best.tolist(), strict=True):
            rows[clip].append(token)
        ended = ended | np.isin(best, ends)
        going = np.flatnonzero(~ended)
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


def prompts(engine: Engine, memory: Memory, rules: DecodingRules) -> np.ndarray:
    """(n, prompt) int64: the rules' prompt for each clip, its language detected where the rules leave it open."""
    count = memory.count
    if None not in rules.prompt:
        return np.array([rules.prompt] * count, np.int64)
    place = rules.prompt.index(None)
    before = np.array([rules.prompt[:place]] * count, np.int64)
    logits, _ = engine.step(before, memory, None)
    spoken = likeliest(logits, rules.languages)
    after = np.array([rules.prompt[place + 1 :]] * count, np.int64)
    return np.concatenate([before, spoken[:, None], after], 1)
