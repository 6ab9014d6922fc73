"""From tokens to phrases with times."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.models.decoding import TimeMarks
from sottovoce.recognition.phrases import Phrase, phrases, said_until

MARKS = TimeMarks(first=100, last=130, seconds=0.5, none=99, no_speech=None, before=None)


def t(seconds):
    return MARKS.first + round(seconds / MARKS.seconds)


TOKENS = st.lists(st.one_of(st.integers(0, 9), st.integers(MARKS.first, MARKS.last)), max_size=20)


@settings(deadline=None)
@given(TOKENS, st.sampled_from([0.3, 2.0, 7.25, 15.0]))
def test_phrases_lie_in_order_inside_the_window_and_hold_each_token_of_text_once(tokens, seconds):
    found = phrases(tokens, MARKS, seconds)
    assert [token for phrase in found for token in phrase.tokens] == [token for token in tokens if token < 99]
    clock = 0.0
    for phrase in found:
        assert phrase.tokens
        assert clock <= phrase.start <= phrase.end <= seconds
        clock = phrase.end


CASES = {
    "closed": ([t(0.5), 1, 2, t(2)], [((1, 2), 0.5, 2)]),
    "two": ([t(0), 1, t(2), t(3), 2, t(4)], [((1,), 0, 2), ((2,), 3, 4)]),
    "the last is open": ([t(0), 1, t(2), t(2.5), 2, 3], [((1,), 0, 2), ((2, 3), 2.5, 8)]),
    "only one, and open": ([t(1), 1], [((1,), 1, 8)]),
    "opened without text": ([t(0), 1, t(2), t(2)], [((1,), 0, 2)]),
    "no time at all": ([1, 2], [((1, 2), 0, 8)]),
    "no time opens it": ([1, 2, t(3)], [((1, 2), 0, 3)]),
    "closed once for two": ([t(0), 1, t(2), 2, t(4)], [((1,), 0, 2), ((2,), 2, 4)]),
    "behind the window": ([t(7), 1, t(9), t(9), 2, t(10)], [((1,), 7, 8), ((2,), 8, 8)]),
    "falling": ([t(4), 1, t(2), t(1), 2, t(3)], [((1,), 4, 4), ((2,), 4, 4)]),
    "nothing": ([], []),
    "times alone": ([t(0), t(1)], []),
}


@pytest.mark.parametrize("case", CASES)
def test_a_phrase_lasts_until_its_time_closes_it_or_the_window_ends(case):
    tokens, expected = CASES[case]
    assert phrases(tokens, MARKS, 8.0) == [Phrase(*each) for each in expected]


def test_a_model_without_times_says_one_phrase():
    assert phrases([1, 2, 130], None, 3.5) == [Phrase((1, 2, 130), 0.0, 3.5)]
    assert phrases([], None, 3.5) == []


# what transcribe.py of OpenAI's whisper does with the same tokens: all of the window where the last time stands alone
# behind words or no two times stand together, else up to the first of the last two that do
UNTIL = {
    "the last time closes": ([t(0), 1, t(3)], 8),
    "a pair, and the last time closes": ([t(0), 1, t(2), t(2), 2, t(5)], 8),
    "the last phrase is open": ([t(0), 1, t(2), t(2.5), 2], 2),
    "of several pairs the last": ([t(0), 1, t(2), t(2), 2, t(4), t(5), 3], 4),
    "a pair at the end": ([t(0), 1, t(2), t(2), 2, t(4.5), t(5)], 4.5),
    "no pair": ([t(0), 1, 2], 8),
    "no time": ([1, 2], 8),
    "nothing": ([], 8),
    "one time": ([t(1)], 8),
    "two times and no words before": ([t(0), t(1), 1], 8),
    "behind the window": ([t(0), 1, t(9), t(9), 2], 8),
    "falling": ([t(0), 1, t(4), t(2), t(3), 2], 4),  # what is said is not heard again
}


@pytest.mark.parametrize("case", UNTIL)
def test_a_window_is_said_up_to_its_last_whole_phrase(case):
    tokens, expected = UNTIL[case]
    assert said_until(tokens, MARKS, 8.0) == expected


@settings(deadline=None)
@given(TOKENS, st.sampled_from([0.3, 2.0, 7.25, 15.0]))
def test_what_is_said_lies_in_the_window(tokens, seconds):
    assert 0 <= said_until(tokens, MARKS, seconds) <= seconds
