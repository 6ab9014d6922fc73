"""Window after window, with a search that says what it is told to."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.recognition.chunked import SMALLEST
from sottovoce.recognition.guards import TEMPERATURES
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.sequential import sequential
from sottovoce.recognition.wishes import Wishes
from tests.recognition.fakes import MARKS, OPEN_RULES, RATE, RULES, Late, found, t, told, window
from tests.recognition.test_chunked import ASK, at, at_once, holds, laid, random_says, silence

WISHES = Wishes(method="sequential")
CONDITIONED = Wishes(method="sequential", condition=True)


def heard(search):
    """(start, seconds) of each window that was asked for at temperature 0."""
    return [(at(clips[0]), len(clips[0]) / RATE) for clips, ask, _ in search.asked if not ask.temperature]


def befores(search):
    return [ask.before for _, ask, _ in search.asked if not ask.temperature]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0.1, 0.7, 9.0, 33.3, -2.0]), min_size=1, max_size=3), random_says(), st.booleans())
def test_it_moves_on_whatever_is_said_and_its_segments_lie_inside_and_in_order(lengths, says, condition):
    pieces, search = laid(lengths), told(says)
    found = list(sequential(search, pieces, ASK, CONDITIONED if condition else WISHES))
    assert [(one.start, one.end, one.speech) for one in found] == [(*each.covers, each.speech) for each in pieces]
    holds(found, (pieces[0].start, pieces[-1].end))
    places = [start for start, _ in heard(search)]
    assert places == sorted(set(places))
    assert len(search.asked) <= sum(len(TEMPERATURES) * (abs(each) / SMALLEST + 1) for each in lengths)


def test_the_next_window_begins_where_the_last_whole_phrase_ends():
    texts = {
        0.0: (t(0), 1, t(12), t(12.5), 2, t(25), t(25.5), 3),
        25.0: (t(0.5), 3, t(9), t(9), 4, t(15)),
    }
    search = told(lambda clip, ask: found(*texts[at(clip)]))
    [one] = sequential(search, [window(40.0)], ASK, WISHES)
    assert heard(search) == [(0.0, 30.0), (25.0, 15.0)]
    assert [(each.tokens, each.start, each.end) for each in one.segments] == [
        ((1,), 0, 12),
        ((2,), 12.5, 25),
        ((3,), 25.5, 34),
        ((4,), 34, 40),
    ]


@pytest.mark.parametrize("tokens", [(t(0), 1, t(3)), (t(0), 1), (1, 2), (), (t(0), t(3))])
def test_a_window_whose_last_phrase_is_closed_or_the_only_one_is_done(tokens):
    search = told(lambda clip, ask: found(*tokens))
    list(sequential(search, [window(65.0)], ASK, WISHES))
    assert heard(search) == [(0.0, 30.0), (30.0, 30.0), (60.0, 5.0)]


def test_what_is_unfinished_behind_a_short_phrase_is_not_written_twice():
    """False before: a window moves on by half a second at least, and a phrase that began before that was kept whole."""
    texts = {0.0: (t(0), 1, t(0.2), t(0.2), 2, 3), SMALLEST: (t(0), 3, t(9))}
    search = told(lambda clip, ask: found(*texts[at(clip)]))
    [one] = sequential(search, [window(10.0)], ASK, WISHES)
    assert [(each.tokens, each.start, each.end) for each in one.segments] == [((1,), 0, 0.2), ((3,), 0.5, 9.5)]


def test_no_word_reaches_into_the_next_window():
    """False before: an alignment could put it behind the first ones that were heard next."""
    search = told(lambda clip, ask: found(t(0), 1, 2, t(2), t(2), 3), engine=Late())
    [one] = sequential(search, [window(10.0)], ASK, Wishes(method="sequential", words=True))
    assert [len(segment.words) for segment in one.segments] == [2, 2, 2, 2, 2, 1]
    holds([one], (0.0, 10.0))


def test_text_with_times_behind_the_audio_stays_where_nothing_is_heard_again():
    """False before: a phrase that begins behind the end of a window was left out, and no guard told."""
    search = told(lambda clip, ask: found(t(1), 1, t(6), t(6), 2, t(7)))
    [one] = sequential(search, [window(5.0)], ASK, WISHES)
    assert [(each.tokens, each.start, each.end) for each in one.segments] == [((1,), 1, 5), ((2,), 5, 5)]


def test_a_first_window_is_heard_however_short_and_no_rest_of_half_a_second():
    search = told(at_once)
    found = list(sequential(search, [window(0.2), silence(3, 0.2), window(30.4, 3.2)], ASK, WISHES))
    assert heard(search) == [(0.0, 0.2), (3.2, 30.0)]
    assert [len(one.segments) for one in found] == [1, 0, 1]


def test_a_language_is_that_of_the_first_window():
    search = told(lambda clip, ask: found(t(0), 7, t(2), language=93 if at(clip) < 5 else 94), rules=OPEN_RULES)
    list(sequential(search, [window(40.0), window(3.0, 40.0)], ASK, WISHES))
    assert [rules.prompt[1] for *_, rules in search.asked] == [None, 93, 93]


# --- what was said before --------------------------------------------------------------------------


def numbered(temperature=0.0):
    """Each window says its start's number and one more, and ends with a phrase that is unfinished."""

    def says(clip, ask):
        number = int(at(clip)) % 80
        return found(t(0), number, number + 1, t(10), t(10), 85, temperature=temperature)

    return says


def test_each_window_is_told_what_was_finished_before_it_over_all_pieces():
    search = told(numbered())
    list(sequential(search, [window(25.0), window(5.0, 25.0)], ASK, CONDITIONED))
    assert heard(search) == [(0, 25), (10, 15), (20, 5), (25, 5)]
    assert befores(search)[:3] == [(), (96, 0, 1), (96, 0, 1, 10, 11)]


def test_it_is_told_nothing_where_that_was_not_asked_for():
    search = told(numbered())
    list(sequential(search, [window(25.0)], Ask(before=(96, 5, 6), marks=MARKS), WISHES))
    assert set(befores(search)) == {(96, 5, 6)}


def test_the_prompt_stands_in_front_of_what_was_said():
    search = told(numbered())
    list(sequential(search, [window(25.0)], Ask(before=(96, 5, 6), marks=MARKS), CONDITIONED))
    assert befores(search) == [(96, 5, 6), (96, 5, 6, 0, 1), (96, 5, 6, 0, 1, 10, 11)]


@pytest.mark.parametrize("asked", [0, 3, 31, 32])
def test_what_was_said_takes_half_of_the_room_at_most_and_its_end_is_kept(asked):
    before = (96, *[5] * (asked - 1)) if asked else ()
    search = told(lambda clip, ask: found(t(0), *range(40), t(29), mean=-0.2))
    list(sequential(search, [window(80.0)], Ask(before=before, marks=MARKS), CONDITIONED))
    room = RULES.most_tokens // 2
    first, *later = befores(search)
    assert first == before
    for each in later:
        begins = before or (96,)
        assert len(each) == room
        assert each[: len(begins)] == begins
        assert each[len(begins) :] == tuple(range(40))[40 - (room - len(begins)) :]


@pytest.mark.parametrize(("temperature", "told_of"), [(0.4, (96, 0, 1)), (0.6, ())])
def test_a_text_drawn_at_a_temperature_above_a_half_is_forgotten(temperature, told_of):
    search = told(numbered(temperature))
    list(sequential(search, [window(15.0)], ASK, CONDITIONED))
    assert befores(search)[1] == told_of


def test_a_text_that_was_left_out_is_not_told():
    silent = found(t(0), 1, t(9), t(9), 2, mean=-2.0, silent=0.9)
    search = told(lambda clip, ask: silent if at(clip) == 0 else found(t(0), 3, t(4)))
    [one] = sequential(search, [window(40.0)], ASK, CONDITIONED)
    assert heard(search) == [(0, 30), (30, 10)]
    assert befores(search) == [(), ()]
    assert one.guards == (("no speech", 1),)
    assert [each.tokens for each in one.segments] == [(3,)]
