"""Greedy search on the made-up engine of test_beam.py: clips that have ended leave the batch."""

import pytest

from sottovoce.recognition.greedy import greedy
from tests.recognition.test_beam import CASES, Drawn, Rows, drawn, rules


class Counted(Drawn):
    """An engine that remembers how many rows each step had."""

    def __init__(self, seed):
        super().__init__(seed)
        self.rows = []

    def step(self, tokens, memory, cache):
        self.rows.append(len(tokens))
        return super().step(tokens, memory, cache)


def alone(seed, clip, asked):
    """One clip's tokens and whether the longest output cut them off, a token at a time."""
    tokens = ()
    while len(tokens) < asked.most_tokens:
        scores = drawn(seed, clip, tokens).tolist()
        for token in asked.suppressed if tokens else (*asked.suppressed, *asked.suppressed_first):
            scores[token] = float("-inf")
        token = scores.index(max(scores))
        if token in asked.end:
            return tokens, False
        tokens = (*tokens, token)
    return tokens, True


@pytest.mark.parametrize("case", CASES)
def test_each_clip_of_a_batch_says_what_it_says_alone(case):
    asked, cut = rules(**CASES[case]), set()
    for seed in range(12):
        found = greedy(Drawn(seed), Rows(list(range(5))), asked)
        assert [(row.tokens, row.capped) for row in found] == [alone(seed, clip, asked) for clip in range(5)]
        cut |= {row.capped for row in found}
    assert cut == {True, False} or case == "long"


def test_one_clip_that_goes_on_is_not_fed_beside_all_that_have_ended():
    asked = rules(most_tokens=60)
    for seed in range(12):
        engine = Counted(seed)
        lengths = [len(row.tokens) + 1 - row.capped for row in greedy(engine, Rows(list(range(8))), asked)]
        assert len(engine.rows) == max(lengths)
        for step, rows in enumerate(engine.rows):
            going = sum(length > step for length in lengths)
            assert going <= rows < 2 * going + (step == 0) * 8
