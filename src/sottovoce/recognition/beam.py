"""Beam search under a family's rules, for any engine: the tokens of transformers' `generate(num_beams=...)`.

Of each clip the likeliest beginnings are kept and fed on. What has ended is scored by the mean log-probability of its
tokens, the end included (length_penalty=1.0). A clip is done when as many have ended as there are beams, and the
likeliest beginning has no better mean than the worst of them (early_stopping=False), or at the longest output.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sottovoce.models.decoding import Decoded, DecodingRules
from sottovoce.recognition.greedy import greedy, prompts
from sottovoce.recognition.scores import log_softmax, without
from sottovoce.targets.engine import Engine, Memory

MOST_BEAMS = 100  # the memory of a beam is that of a clip


@dataclass(frozen=True)
class _Candidate:
    """A beginning, by its place among those of its clip, with one more token; the log-probability of both."""

    total: float
    beginning: int
    token: int


@dataclass
class _Search:
    """The search for one clip: beginnings that go on, none when it is done; the best that ended, with their means."""

    prompt: tuple[int, ...]
    beginnings: list[tuple[int, ...]] = field(default_factory=lambda: [()])
    ended: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    def advance(
        self, candidates: Sequence[_Candidate], width: int, ends: Sequence[int], last: bool
    ) -> list[_Candidate]:
        """Take one step; those of the candidates, best first, that go on."""
        length = len(self.beginnings[0]) + 1
        for one in candidates[:width]:  # the others are there so that enough can go on
            if last or one.token in ends:
                self.ended.append((one.total / length, (*self.beginnings[one.beginning], one.token)))
        self.ended = sorted(self.ended, key=lambda pair: -pair[0])[:width]
        going = [] if last else [one for one in candidates if one.token not in ends][:width]
        if going and len(self.ended) == width and going[0].total / length <= self.ended[-1][0]:
            going = []
        self.beginnings = [(*self.beginnings[one.beginning], one.token) for one in going]
        return going

    def decoded(self, ends: Sequence[int]) -> Decoded:
        """The best that ended."""
        mean, tokens = self.ended[0]
        capped = tokens[-1] not in ends
        return Decoded(self.prompt, tokens if capped else tokens[:-1], capped, mean * len(tokens))


def check_width(width: int, rules: DecodingRules, vocabulary: int) -> None:
    """Raise ValueError for a number of beams below 1, or above what the first step's tokens can fill."""
    if rules.by_frames:
        if width != 1:
            raise ValueError(f"beam={width}: each frame of a CTC model chooses its likeliest token; beam=1 would work")
        return
    tokens = vocabulary - len({*rules.forbidden(0)})
    most = min(MOST_BEAMS, max(1, tokens // (1 + len(rules.end))))
    if not 1 <= width <= most:
        raise ValueError(f"beam={width}: the model chooses among {tokens} tokens, so 1 to {most} would work")


Filter = Callable[[np.ndarray, Sequence[Sequence[int]]], None]


def beam(engine: Engine, memory: Memory, rules: DecodingRules, width: int) -> list[Decoded]:
    """The best of `width` beams, for each clip of `memory`; with one, what `greedy` gives.

    Suppressed tokens lose their probability to nobody, as in transformers. Raises ValueError for a width that
    `check_width` refuses.
    """
    if width == 1:
        return greedy(engine, memory, rules)
    prompt = prompts(engine, memory, rules)
    logits, cache = engine.step(prompt, memory, None)
    begun = [tuple(each) for each in prompt.tolist()]
    return beam_from(engine, memory, rules, width, (begun, logits, cache))


def beam_from(
    engine: Engine,
    memory: Memory,
    rules: DecodingRules,
    width: int,
    begun: tuple[Sequence[tuple[int, ...]], np.ndarray, Any],
    forbid: Filter | None = None,
) -> list[Decoded]:
    """The same behind prompts that were fed: they, the logits of what follows, and the cache.

    forbid  puts minus infinity into scores (n, vocabulary) of what may not follow n beginnings
    """
    prompt, logits, cache = begun
    searches = [_Search(each) for each in prompt]
    live, rows = searches, 1
    totals = np.zeros((len(live), 1), np.float32)
    for length in range(1, rules.most_tokens + 1):
        vocabulary = logits.shape[-1]
        if length == 1:
            check_width(width, rules, vocabulary)
        logs = without(log_softmax(logits), rules.forbidden(length - 1))
        if forbid is not None:
            forbid(logs, [beginning for search in live for beginning in search.beginnings])
        # so many that enough go on even if every beam ends in every way
        best, places = _largest((totals + logs).reshape(len(live), -1), width * (1 + len(rules.end)))
        going = []
        for place, (search, scores, found) in enumerate(zip(live, best.tolist(), places.tolist(), strict=True)):
            pairs = zip(scores, found, strict=True)
            candidates = [_Candidate(score, *divmod(index, vocabulary)) for score, index in pairs]
            chosen = search.advance(candidates, width, rules.end, last=length == rules.most_tokens)
            going += [(place * rows + one.beginning, one) for one in chosen]
        live, rows = [search for search in live if search.beginnings], width
        if not live:
            break
        memory, cache = engine.branch(memory, cache, np.array([parent for parent, _ in going]))
        totals = np.array([[one.total] for _, one in going], np.float32)
        logits, cache = engine.step(np.array([[one.token] for _, one in going]), memory, cache)
    return [search.decoded(rules.end) for search in searches]


def _largest(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest of each row, the largest first, and where they are."""
    some = np.argpartition(scores, -count, axis=-1)[:, -count:]
    order = np.argsort(-np.take_along_axis(scores, some, -1), axis=-1, kind="stable")
    places = np.take_along_axis(some, order, -1)
    return np.take_along_axis(scores, places, -1), places
