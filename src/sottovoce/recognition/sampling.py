"""From an engine's logits to tokens with their probability: the search of long recordings.

The likeliest token at temperature 0, as greedy.py; above it tokens are drawn. Beside them it tells what guards ask for:
the probability of what was written, that of nobody speaking, and a loop, at which a clip stops.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sottovoce.models.decoding import DecodingRules, TimeMarks
from sottovoce.recognition.loops import loop_at_end
from sottovoce.recognition.scores import likeliest, log_softmax, without
from sottovoce.recognition.time_rules import allow
from sottovoce.targets.engine import Engine, Memory


@dataclass(frozen=True)
class Found:
    """What was written of one clip.

    prompt           the tokens before it, without what was said before
    tokens           with times, without the end
    log_probability  of all of them and the end, in nats, among the tokens that were allowed, or among all where beams
                     found them; None where it is not known
    no_speech        the probability that nobody speaks; None for a model that does not tell
    looped, capped   whether it was stopped in a loop, or holds one, where that is watched; or by the longest output
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    log_probability: float | None
    no_speech: float | None
    temperature: float = 0.0
    looped: bool = False
    capped: bool = False
    heard: tuple[Any, int] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Ask:
    """How a batch is searched.

    before        tokens of what was said before, for all clips
    marks         of a model that can write times; None for none
    times         have it write them
    watch_loops   stop a clip that repeats itself
    """

    before: tuple[int, ...] = ()
    marks: TimeMarks | None = None
    times: bool = True
    temperature: float = 0.0
    watch_loops: bool = True
    seed: int = 0

    @property
    def written(self) -> TimeMarks | None:
        """The marks of the times that are written; None if none are."""
        return self.marks if self.times else None

    def is_word(self, token: int) -> bool:
        """Whether a token is no time."""
        return self.marks is None or not self.marks.is_time(token)

    def words(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that are no times."""
        return [token for token in tokens if self.is_word(token)]


def sample(engine: Engine, memory: Memory, rules: DecodingRules, ask: Ask) -> list[Found]:
    """What each clip of `memory` says."""
    begun, logits, cache = begin(engine, memory, rules, ask)
    rows = [Row(*each, np.random.default_rng(ask.seed)) for each in begun]
    live = rows
    for length in range(rules.most_tokens):
        chosen = choose(logits, live, rules, ask, length)
        for row, token in zip(live, chosen.tolist(), strict=True):
            row.take(token, rules.end, ask)
        going = np.array([place for place, row in enumerate(live) if not row.ended], np.int64)
        if not len(going):
            break
        if 2 * len(going) <= len(live):
            memory, cache = engine.branch(memory, cache, going)
            live, chosen = [live[place] for place in going.tolist()], chosen[going]
        if length + 1 < rules.most_tokens:
            logits, cache = engine.step(chosen[:, None], memory, cache)
    return [row.found(ask.temperature) for row in rows]


@dataclass
class Row:
    """A clip while it is searched: what was said of it, and how likely that is."""

    prompt: tuple[int, ...]
    no_speech: float | None
    generator: np.random.Generator  # its own, so that what is drawn does not hang on the clips beside it
    tokens: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)  # the tokens that are no times: a loop has times of its own
    total: float = 0.0
    likely: float = 0.0  # the log-probability of the token that was chosen last
    ended: bool = False
    looped: bool = False

    def take(self, token: int, ends: Sequence[int], ask: Ask) -> None:
        """One token more, or the end."""
        if self.ended:
            return
        self.total += self.likely
        if token in ends:
            self.ended = True
            return
        self.tokens.append(token)
        if ask.is_word(token):
            self.words.append(token)
            if ask.watch_loops and loop_at_end(self.words):
                self.ended = self.looped = True

    def found(self, temperature: float) -> Found:
        """It as it ended, or as the longest output cut it off."""
        return Found(
            self.prompt, tuple(self.tokens), self.total, self.no_speech, temperature, self.looped, not self.ended
        )


Begun = tuple[tuple[int, ...], float | None]  # a clip's prompt, and how probable it is that nobody speaks


def begin(engine: Engine, memory: Memory, rules: DecodingRules, ask: Ask) -> tuple[list[Begun], np.ndarray, Any]:
    """Feed the prompts: they, the logits of what follows (n, vocabulary), and the cache.

    Where a transcript starts, the model tells whether anybody speaks, and which language; so the prompt is fed in two
    parts where it tells either.
    """
    count = memory.count
    first, rest = rules.prompt[0], rules.prompt[1:]
    assert first is not None, "a transcript starts with a token that is known"
    quiet = None if ask.marks is None else ask.marks.no_speech
    start = np.array([[*ask.before, first]] * count, np.int64)
    behind = np.array([[0 if token is None else token for token in rest]] * count, np.int64).reshape(count, -1)
    silent: list[float | None] = [None] * count
    if quiet is None and None not in rest:
        logits, cache = engine.step(np.concatenate([start, behind], 1), memory, None)
    else:
        logits, cache = engine.step(start, memory, None)
        if quiet is not None:
            silent = np.exp(log_softmax(logits)[:, quiet]).tolist()
        if None in rest:
            behind[:, rest.index(None)] = likeliest(logits, rules.languages)
        if behind.shape[1]:
            logits, cache = engine.step(behind, memory, cache)
    return [((first, *row), each) for row, each in zip(behind.tolist(), silent, strict=True)], logits, cache


def choose(logits: np.ndarray, live: Sequence[Row], rules: DecodingRules, ask: Ask, length: int) -> np.ndarray:
    """(n,) the next token of each row; each row remembers how likely its own was."""
    allowed = without(logits, rules.forbidden(length))
    if ask.written is not None:
        allow(allowed, [row.tokens for row in live], ask.written, min(rules.end))
    allowed = log_softmax(allowed)
    if ask.temperature:
        waits = np.stack([row.generator.standard_exponential(allowed.shape[-1], np.float32) for row in live])
        with np.errstate(divide="ignore"):
            chosen = (allowed / ask.temperature - np.log(waits)).argmax(-1)  # Gumbel's maximum
    else:
        chosen = allowed.argmax(-1)
    for row, own, token in zip(live, allowed, chosen.tolist(), strict=True):
        row.likely = float(own[token])
    return np.asarray(chosen)
