"""Loops against the slow twin, which writes tokens as characters and looks for phrases with `endswith`."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.recognition.loops import loop_at_end, places_without_loops
from tests.reference import loops as slow

# few tokens, and phrases that come back, so that loops of all lengths are met
PHRASES = st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=10), st.integers(1, 9)).map(lambda p: p[0] * p[1])
TOKENS = st.lists(PHRASES, max_size=4).map(lambda parts: [token for part in parts for token in part])


def without_loops(tokens):
    return [tokens[place] for place in places_without_loops(tokens)]


@settings(deadline=None, max_examples=60)
@given(TOKENS)
def test_a_loop_is_noticed_where_string_search_finds_one(tokens):
    for end in range(max(0, len(tokens) - 20), len(tokens) + 1):
        assert loop_at_end(tokens[:end]) == slow.loop_at_end(slow.written(tokens[:end]))


@settings(deadline=None, max_examples=60)
@given(TOKENS)
def test_what_stays_is_what_string_search_leaves(tokens):
    places = places_without_loops(tokens)
    assert places == sorted(set(places))
    assert slow.written(without_loops(tokens)) == slow.without_loops(slow.written(tokens))


@settings(deadline=None, max_examples=60)
@given(TOKENS)
def test_what_stays_holds_no_loop_and_all_that_was_none(tokens):
    kept = without_loops(tokens)
    assert not any(loop_at_end(kept[:end]) for end in range(len(kept) + 1))
    assert without_loops(kept) == kept
    if not any(loop_at_end(tokens[:end]) for end in range(len(tokens) + 1)):
        assert kept == tokens


@pytest.mark.parametrize(
    ("period", "rounds"),
    [(1, 8), (1, 9), (1, 12), (1, 13), (1, 29), (2, 4), (2, 5), (2, 9), (3, 4), (3, 11), (7, 6), (32, 4), (32, 5)],
)
def test_however_long_a_loop_is_three_rounds_are_left(period, rounds):
    """False before for a single token: of twelve in a row seven were left, of thirteen three."""
    phrase, around = list(range(10, 10 + period)), ([1, 2], [3])
    assert without_loops(around[0] + phrase * rounds + around[1]) == around[0] + phrase * 3 + around[1]


@pytest.mark.parametrize("period", [2, 5])
def test_a_round_that_was_begun_stays(period):
    phrase = list(range(period))
    assert without_loops(phrase * 9 + phrase[:1] + [77]) == phrase * 3 + phrase[:1] + [77]


@pytest.mark.parametrize("said", ["no no no no", "1 1 1 1", "ha ha ha ha ha ha ha", "a b a b a b", "0 0 7 0 0 7 0 0 7"])
def test_what_people_say_again_stays(said):
    words = said.split()
    tokens = [sorted(set(words)).index(word) for word in words]
    assert places_without_loops(tokens) == list(range(len(tokens)))
    assert not loop_at_end(tokens)


def test_a_phrase_that_is_longer_than_any_loop_may_come_back():
    assert without_loops(list(range(33)) * 5) == list(range(33)) * 5


def test_asking_after_each_of_448_tokens_takes_far_less_than_a_step_of_any_model():
    tokens = [0, 1, 0, 0, 1, 0, 1] * 64  # much alike, so that comparisons go far
    started = time.process_time()
    for end in range(448):
        loop_at_end(tokens[:end])
    assert time.process_time() - started < 0.2
