"""Beam search on a made-up engine, whose probabilities are drawn anew for each beginning."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from sottovoce.models.decoding import DecodingRules
from sottovoce.recognition.beam import beam
from sottovoce.recognition.greedy import greedy
from tests.reference.beam import beam as slow

VOCABULARY = 12
PROMPT = (3, 7)


@cache
def drawn(seed, clip, tokens):
    """Log-probabilities of the token after those, (vocabulary,)."""
    noise = np.random.default_rng(hash((seed, clip, *tokens)) % 2**31)
    scores = 2 * noise.standard_normal(VOCABULARY)
    return (scores - np.log(np.exp(scores).sum())).astype(np.float32)


@dataclass
class Rows:
    """Which clip each row is of."""

    clips: list[int]

    @property
    def count(self):
        return len(self.clips)


class Drawn:
    """An engine whose cache is the tokens of each row."""

    together = None

    def __init__(self, seed):
        self.seed = seed

    def step(self, tokens, memory, cache):
        held = [()] * len(tokens) if cache is None else cache
        held = [(*before, *new) for before, new in zip(held, tokens.tolist(), strict=True)]
        pairs = zip(memory.clips, held, strict=True)
        # logits are log-probabilities up to a number of each row's own
        return np.stack([drawn(self.seed, clip, row[len(PROMPT) :]) + row[-1] for clip, row in pairs]), held

    def branch(self, memory, cache, parents):
        return Rows([memory.clips[i] for i in parents]), [cache[i] for i in parents]


def rules(**changes):
    return DecodingRules(**{"prompt": PROMPT, "end": (0,), "most_tokens": 6} | changes)


CASES = {
    "one end": {},
    "several ends": {"end": (0, 4)},
    "cut off at once": {"most_tokens": 1},
    "long": {"most_tokens": 20},
    "suppressed": {"suppressed": (4, 5), "suppressed_first": (0,)},
}


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("case", CASES)
def test_it_finds_what_the_slow_search_finds_for_each_clip_of_a_batch(case, width):
    asked = rules(**CASES[case])
    cut = set()
    for seed in range(12):
        found = beam(Drawn(seed), Rows([0, 1, 2]), asked, width)
        for clip, row in enumerate(found):
            expected = slow(
                lambda tokens, s=seed, c=clip: drawn(s, c, tokens).tolist(),
                width,
                asked.end,
                asked.most_tokens,
                asked.suppressed,
                asked.suppressed_first,
            )
            assert row.capped == (expected[-1] not in asked.end)
            assert row.tokens == (expected if row.capped else expected[:-1])
            assert row.prompt == PROMPT
            cut.add(row.capped)
    assert False in cut
    assert True in cut or case != "one end"


def test_one_beam_is_greedy_search_and_more_find_likelier_transcripts():
    likelier = 0
    for seed in range(20):
        engine, clips = Drawn(seed), Rows([0, 1])
        first = greedy(engine, clips, rules())
        assert beam(engine, clips, rules(), 1) == first
        for clip, (one, four) in enumerate(zip(first, beam(engine, clips, rules(), 4), strict=True)):
            narrow, wide = (mean(seed, clip, row) for row in (one, four))
            likelier += (wide > narrow) - (wide < narrow)
    assert likelier > 10


def mean(seed, clip, row):
    tokens = row.tokens if row.capped else (*row.tokens, 0)
    return sum(drawn(seed, clip, tokens[:i])[token].item() for i, token in enumerate(tokens)) / len(tokens)


@pytest.mark.parametrize(
    ("changes", "most"),
    [({}, 6), ({"end": (0, 1)}, 4), ({"suppressed": (4, 5), "suppressed_first": (5, 6, 8)}, 4)],
)
def test_a_width_that_the_tokens_cannot_fill_is_refused(changes, most):
    assert beam(Drawn(0), Rows([0]), rules(**changes), most)
    for width in (-1, 0, most + 1):
        with pytest.raises(
            ValueError, match=rf"beam={width}: the model chooses among \d+ tokens, so 1 to {most} would"
        ):
            beam(Drawn(0), Rows([0]), rules(**changes), width)
