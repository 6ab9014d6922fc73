"""Rules of times against the slow twin, and what every transcript under them looks like."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.models.decoding import TimeMarks
from sottovoce.recognition.time_rules import allow
from tests.reference.time_rules import allowed

END, NONE, FIRST = 5, 6, 8  # text lies below the end; 7 is another special token
STEP = 0.25  # seconds: four steps are the latest first time


def marks(count):
    return TimeMarks(FIRST, FIRST + count - 1, STEP, NONE, None, None)


@st.composite
def histories(draw):
    """How many times there are, how many tokens lie behind them, and what was said, in any order."""
    count, behind = draw(st.integers(1, 12)), draw(st.integers(0, 2))
    tokens = st.sampled_from([*range(END), *range(FIRST, FIRST + count)])
    return count, behind, draw(st.lists(tokens, max_size=8))


@settings(deadline=None, max_examples=200)
@given(histories(), st.integers(0, 2**31), st.sampled_from([0.3, 1.0, 4.0]))
def test_what_may_follow_is_what_the_slow_rules_let_follow(history, seed, spread):
    count, behind, said = history
    scores = (spread * np.random.default_rng(seed).standard_normal((2, FIRST + count + behind))).astype(np.float32)
    expected = allowed(scores[0].tolist(), said, range(FIRST, FIRST + count), FIRST + 4, END)
    before = scores.copy()
    allow(scores, [said, ()], marks(count), END)
    assert np.flatnonzero(np.isfinite(scores[0])).tolist() == expected
    np.testing.assert_array_equal(scores[0, expected], before[0, expected])


def walked(seed, count, most=60):
    """A transcript of random scores."""
    noise, said = np.random.default_rng(seed), []
    while len(said) < most:
        scores = noise.standard_normal((1, FIRST + count)).astype(np.float32)
        scores[0, [END + 1, END + 2]] = -np.inf  # as a model's suppressed tokens
        scores[0, FIRST:] -= 1.5
        allow(scores, [said], marks(count), END)
        token = int(scores[0].argmax())
        assert np.isfinite(scores[0, token])
        if token == END:
            return said, True
        said.append(token)
    return said, False


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**31), st.integers(1, 30))
def test_a_transcript_begins_soon_its_times_never_fall_and_stand_in_pairs(seed, count):
    said, ended = walked(seed, count)
    times = [token for token in said if token >= FIRST]
    assert times[0] <= FIRST + 4
    assert times == sorted(times)
    kinds = "".join("t" if token >= FIRST else "w" for token in said)
    # each phrase is opened and closed; what the end or the longest output cuts off may be open
    assert re.fullmatch(r"(tw+t)*(tw*)?", kinds), (kinds, ended)
    phrases = [match.span() for match in re.finditer("tw+t", kinds)]
    assert all(said[first] < said[last - 1] for first, last in phrases)


def test_walks_write_whole_phrases():
    walks = ["".join("t" if token >= FIRST else "w" for token in walked(seed, 30)[0]) for seed in range(9)]
    assert max(walk.count("tt") for walk in walks) > 1


def test_a_transcript_begins_with_a_time_where_the_head_scores_tokens_behind_the_last_one():
    """False before: with few times, padding of the vocabulary could be written first."""
    scores = np.zeros((1, FIRST + 4), np.float32)
    scores[0, -1] = 9.0
    allow(scores, [()], marks(2), END)
    assert np.flatnonzero(np.isfinite(scores[0])).tolist() == [FIRST, FIRST + 1]


@pytest.mark.parametrize(("times", "expected"), [(-2.0, "text"), (-0.5, "time")])
def test_a_time_is_due_where_all_times_together_are_likelier_than_any_word(times, expected):
    scores = np.full((1, FIRST + 4), -30.0, np.float32)
    scores[0, 2] = 0.0
    scores[0, FIRST:] = times  # the last three of them are still to come: log 3 = 1.1
    allow(scores, [(FIRST, 1)], marks(4), END)
    assert (int(scores[0].argmax()) >= FIRST) == (expected == "time")
