"""Speculative decoding: a small model drafts tokens, and the original says of several in one step which are its own.

Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding", 2023, arXiv:2211.17192, the
greedy case: a draft's token is kept if it is the one that the original chooses there, so what is written is what the
original writes alone, whatever the draft says.

The logits of several tokens at once differ in their last bits from those of one after another. Where that could change
a choice, the tokens since the last such place are fed again one by one, as without a draft. So tokens, loops and where
the longest output cuts are the very same as of the clip alone; the log-probability is, but for its last bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sottovoce.models.decoding import DecodingRules
from sottovoce.recognition.sampling import Ask, Found, Row, begin, choose
from sottovoce.recognition.scores import without
from sottovoce.recognition.time_rules import allow
from sottovoce.targets.engine import Cutting, Memory, Verifying

FIRST, MOST = 4, 16  # tokens drafted at once: to begin with, and where all were kept again and again


@dataclass
class Counts:
    """What a draft was worth, over all clips.

    proposed, accepted  tokens of the draft, and those of them that the original chose too
    chosen              tokens that were chosen in all, ends included
    steps, replayed     of the original behind its prompts: for several tokens, and for one, near ties
    draft_steps         of the draft
    """

    proposed: int = 0
    accepted: int = 0
    chosen: int = 0
    steps: int = 0
    replayed: int = 0
    draft_steps: int = 0


@dataclass(frozen=True)
class Case:
    """What both models decide by."""

    rules: DecodingRules
    ask: Ask

    def take(self, logits: np.ndarray, row: Row) -> int:
        """The token that follows by logits (1, vocabulary); the row takes it."""
        [token] = choose(logits, [row], self.rules, self.ask, len(row.tokens)).tolist()
        row.take(token, self.rules.end, self.ask)
        return int(token)

    def certain(self, logits: np.ndarray, row: Row, closeness: float) -> bool:
        """Whether logits (1, vocabulary) that are so close to these choose the same token."""
        largest = float(np.abs(logits).max()) / (1 - closeness)
        slack = 2 * closeness * largest  # one may be higher, and another lower
        allowed = without(logits, self.rules.forbidden(len(row.tokens)))
        if marks := self.ask.written:
            likelier, less = allowed.copy(), allowed
            likelier[:, marks.first : marks.last + 1] += slack
            less[:, marks.first : marks.last + 1] -= slack
            for scores in (likelier, less):
                allow(scores, [row.tokens], marks, min(self.rules.end))
            if not np.array_equal(np.isfinite(likelier), np.isfinite(less)):
                return False  # a time may be due, or not
            allowed = np.where(np.isfinite(less), logits, -np.inf)
        second, first = np.partition(allowed[0], -2)[-2:]
        return bool(first - second > slack)


def speculative(
    engine: Verifying,
    draft: Cutting,
    memory: Memory,
    draft_memory: Memory,
    rules: DecodingRules,
    ask: Ask,
    counts: Counts | None = None,
) -> list[Found]:
    """What the one clip of `memory` says: what `sample` finds, at temperature 0.

    engine  Verifying, with a closeness
    draft   Cutting; draft_memory is the same clip as it encoded it
    counts  is added to
    """
    assert memory.count == 1, "one clip at a time"
    assert not ask.temperature, "nothing is drawn"
    counts = Counts() if counts is None else counts
    [begun], logits, cache = begin(engine, memory, rules, ask)
    row, case = Row(*begun, np.random.default_rng(ask.seed)), Case(rules, ask)
    before = (*ask.before, *row.prompt)
    original = _Original(engine, memory, cache, before, case, counts)
    drafting = _Drafting(draft, draft_memory, before, case, counts)
    case.take(logits, row)
    width = FIRST
    while not row.ended and len(row.tokens) < rules.most_tokens:
        proposed = drafting.propose(row, min(width, rules.most_tokens - len(row.tokens) - 1))
        accepted = original.verify(row, proposed)
        width = wider(width, len(proposed), accepted)
    counts.chosen += len(row.tokens) + (row.ended and not row.looped)
    return [row.found(0.0)]


def wider(width: int, proposed: int, accepted: int) -> int:
    """How many tokens to draft next: two more where all were kept, one less where fewer than half were."""
    if accepted == proposed:
        return min(MOST, width + 2)
    return max(1, width - 1) if 2 * accepted < proposed else width


class _Drafting:
    """The draft, and the tokens that its cache holds."""

    def __init__(self, engine: Cutting, memory: Memory, before: Sequence[int], case: Case, counts: Counts) -> None:
        self.engine, self.memory, self.before, self.case, self.counts = engine, memory, before, case, counts
        self.fed: list[int] = []
        self.cache: Any = None

    def propose(self, row: Row, most: int) -> list[int]:
        """What it takes to follow a row, up to an end; none if `most` is 0."""
        if most == 0:
            return []
        said = [*self.before, *row.tokens]
        held = next((i for i, (a, b) in enumerate(zip(self.fed, said, strict=False)) if a != b), len(self.fed))
        held = min(held, len(said) - 1)  # what follows the last is asked
        if held < len(self.fed):
            self.cache = self.engine.cut(self.cache, held)
        self.fed = said[:held]
        logits = self._feed(said[held:])
        guess = replace(row, tokens=list(row.tokens), words=list(row.words))
        proposed = [self.case.take(logits, guess)]
        while len(proposed) < most and not guess.ended:
            proposed.append(self.case.take(self._feed(proposed[-1:]), guess))
        self.counts.proposed += len(proposed)
        return proposed

    def _feed(self, tokens: Sequence[int]) -> np.ndarray:
        logits, self.cache = self.engine.step(np.array([tokens], np.int64), self.memory, self.cache)
        self.fed += tokens
        self.counts.draft_steps += 1
        return np.asarray(logits)


class _Original:
    """The original. Between two calls its cache holds the prompt and all that was chosen but the last token.

    exact  tokens of the cache that were fed as without a draft
    """

    def __init__(
        self, engine: Verifying, memory: Memory, cache: Any, before: Sequence[int], case: Case, counts: Counts
    ) -> None:
        assert engine.closeness is not None, "refused before"
        self.engine = engine
        self.closeness: float = engine.closeness
        self.memory, self.cache, self.before, self.case, self.counts = memory, cache, before, case, counts
        self.exact = len(before)

    def verify(self, row: Row, proposed: Sequence[int]) -> int:
        """Let a row take what the original chooses, up to the first token that was not proposed: how many were."""
        accepted = 0
        ends = bool(proposed) and proposed[-1] in self.case.rules.end  # nothing follows an end
        fed = [row.tokens[-1], *(proposed[:-1] if ends else proposed)]
        logits, self.cache = self.engine.steps(np.array([fed], np.int64), self.memory, self.cache)
        self.counts.steps += 1
        for place, scores in enumerate(logits[0]):
            sure = self.case.certain(scores[None], row, self.closeness)
            token = self.case.take(scores[None] if sure else self._one_by_one(row), row)
            kept = place < len(proposed) and token == proposed[place]
            accepted += kept
            if row.ended or not kept or not sure:
                break
        if sure and not row.ended:
            self.cache = self.engine.cut(self.cache, len(self.before) + len(row.tokens) - 1)
        self.counts.accepted += accepted
        return accepted

    def _one_by_one(self, row: Row) -> np.ndarray:
        """The logits behind a row as they are without a draft."""
        said = [*self.before, *row.tokens]
        self.cache = self.engine.cut(self.cache, self.exact)
        for token in said[self.exact :]:
            logits, self.cache = self.engine.step(np.array([[token]], np.int64), self.memory, self.cache)
            self.counts.replayed += 1
        self.exact = len(said)
        return np.asarray(logits)
