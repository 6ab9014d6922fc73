"""Speculative decoding on a made-up engine: whatever drafts, the original writes what it writes alone."""

from dataclasses import replace

import numpy as np
import pytest

from sottovoce.models.decoding import TimeMarks
from sottovoce.recognition.sampling import Ask, sample
from sottovoce.recognition.speculative import FIRST, MOST, Counts, speculative, wider
from tests.recognition.test_beam import CASES, PROMPT, Drawn, Rows, rules

MARKS = TimeMarks(first=8, last=11, seconds=0.5, none=1, no_speech=2, before=None)


class Checked(Drawn):
    """Verifies; what it says of several tokens at once is off by as much as it may be, now up and now down.

    coarse  round logits, so that most choices are near ties; most: the tokens that it has positions for
    """

    closeness = 1e-3

    def __init__(self, seed, coarse=False, most=None, ends=()):
        super().__init__(seed)
        self.coarse, self.most, self.ends = coarse, most, ends
        self.noise = np.random.default_rng(seed)

    def step(self, tokens, memory, cache):
        assert not np.isin(tokens, self.ends).any(), "nothing follows an end"
        logits, cache = super().step(tokens, memory, cache)
        assert self.most is None or max(map(len, cache)) <= self.most, "there is no position left"
        return (np.round(logits) if self.coarse else logits).astype(np.float32), cache

    def steps(self, tokens, memory, cache):
        after = []
        for column in tokens.T:
            logits, cache = self.step(column[:, None], memory, cache)
            spread = 0.999 * self.closeness * np.abs(logits).max()
            after.append(logits + spread * self.noise.choice([-1, 1], logits.shape).astype(np.float32))
        return np.stack(after, 1), cache

    def cut(self, cache, length):
        assert all(len(row) >= length for row in cache)
        return [row[:length] for row in cache]


class Wavering(Checked):
    """The original's own choice more often than not, else another's."""

    def __init__(self, seed, others):
        super().__init__(seed)
        self.other = Checked(others)

    def step(self, tokens, memory, cache):
        logits, held = super().step(tokens, memory, cache)
        away, _ = self.other.step(tokens, memory, cache)
        return (away if sum(held[0]) % 3 == 0 else logits), held


DRAFTS = {
    "the original itself": Checked,
    "one that says something else": lambda seed: Checked(seed + 1000),
    "one that is often right": lambda seed: Wavering(seed, seed + 1000),
}


def compare(engine, draft, asked, ask, counts=None):
    """Both ways, which must be equal."""
    [alone] = sample(engine, Rows([0]), asked, ask)
    [found] = speculative(engine, draft, Rows([0]), Rows([0]), asked, ask, counts)
    assert replace(found, log_probability=None) == replace(alone, log_probability=None)
    assert found.log_probability == pytest.approx(alone.log_probability, abs=0.1)
    return found


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("case", CASES)
def test_whatever_the_draft_says_the_original_writes_what_it_writes_alone(case, draft):
    asked = rules(**CASES[case])
    cut, counts = set(), Counts()
    for seed in range(12):
        engine = Checked(seed, most=len(PROMPT) + asked.most_tokens - 1, ends=asked.end)
        cut.add(compare(engine, DRAFTS[draft](seed), asked, Ask(), counts).capped)
    assert cut == {True, False} or case in ("long", "cut off at once")
    assert counts.accepted <= counts.proposed
    assert counts.accepted == counts.proposed or counts.replayed or draft != "the original itself"


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("marks", [None, MARKS], ids=["text", "times"])
def test_ties_are_broken_as_without_a_draft(draft, marks):
    counts = Counts()
    asked = rules(most_tokens=20, end=(7,)) if marks else rules(most_tokens=20)
    for seed in range(40):
        compare(Checked(seed, coarse=True), DRAFTS[draft](seed), asked, Ask(marks=marks), counts)
    assert counts.replayed


def test_times_come_in_order_as_without_a_draft():
    written = set()
    for seed in range(40):
        asked = MARKS.asked(rules(most_tokens=20, end=(7,)))
        written |= {*compare(Checked(seed), Wavering(seed, seed + 1000), asked, Ask(marks=MARKS)).tokens}
    assert any(map(MARKS.is_time, written))


class Round(Checked):
    """Says the same three tokens again and again."""

    def __init__(self, seed, period=3):
        super().__init__(seed)
        self.period = period

    def step(self, tokens, memory, cache):
        _, cache = Drawn.step(self, tokens, memory, cache)
        logits = np.zeros((len(tokens), 12), np.float32)
        for row, held in zip(logits, cache, strict=True):
            row[4 + len(held) % self.period] = 9.0
        return logits, cache


@pytest.mark.parametrize("watch", [True, False])
@pytest.mark.parametrize("draft", [Round(0), Round(0, 2), Checked(5)])
def test_a_loop_ends_where_it_does_without_a_draft(draft, watch):
    found = compare(Round(0), draft, rules(most_tokens=40), Ask(watch_loops=watch))
    assert (found.looped, found.capped) == (watch, not watch)


def test_a_draft_that_is_right_saves_steps_and_one_that_is_wrong_costs_few():
    asked = rules(most_tokens=61, end=())
    right, wrong = Counts(), Counts()
    compare(Round(0), Round(0), asked, Ask(watch_loops=False), right)
    compare(Round(0), Round(0, 7), asked, Ask(watch_loops=False), wrong)
    assert right.accepted == right.proposed
    assert right.chosen == wrong.chosen == 61
    assert right.steps <= 7  # 5 + 7 + 9 + 11 + 13 + 15 and the first token are 61
    assert wrong.steps > 20
    assert wrong.draft_steps < 2.5 * wrong.steps


def test_more_are_drafted_while_all_are_kept_and_fewer_where_few_are():
    width = FIRST
    for _ in range(20):
        width = wider(width, width, width)
    assert width == MOST
    assert wider(8, 8, 4) == 8
    assert wider(8, 8, 3) == 7
    assert wider(1, 1, 0) == 1


def test_what_was_said_before_is_fed_to_both():
    ask = Ask(before=(5, 6))
    for seed in range(6):
        compare(Checked(seed), Checked(seed), rules(most_tokens=8), ask)
