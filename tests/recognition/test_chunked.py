"""Pieces of speech, several at once, with a search that says what it is told to."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.recognition.chunked import SMALLEST, chunked
from sottovoce.recognition.guards import TEMPERATURES, UNHEARD
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.window import Window
from sottovoce.recognition.wishes import Wishes
from tests.recognition.fakes import LANGUAGES, MARKS, OPEN_RULES, RATE, START, Late, found, t, told, window

ASK = Ask(marks=MARKS)
TIMES = st.integers(MARKS.first, MARKS.first + 120)


def at(clip):
    """The second of the recording at which a clip begins."""
    return clip[0] / RATE


def at_once(clip, ask=None):
    """One phrase from the clip's start to its end."""
    return found(t(0), 7, t(len(clip) / RATE))


def silence(seconds, start):
    return Window(start, start + seconds, 0.0, np.zeros(0, np.float32), (start, start + seconds), ())


def laid(seconds):
    """Windows of those lengths one behind another; a negative one is without speech."""
    made, clock = [], 0.0
    for each in seconds:
        made.append(window(each, clock) if each > 0 else silence(-each, clock))
        clock = round(clock + abs(each), 3)
    return made


@st.composite
def random_says(draw):
    """A search that says any tokens at all, the same for the same clip and temperature."""
    rows = draw(st.lists(st.lists(st.one_of(st.integers(0, 3), TIMES), max_size=12), min_size=1, max_size=5))
    means, flags = draw(st.lists(st.sampled_from([-0.2, -1.5]), min_size=1, max_size=3)), draw(st.booleans())

    def says(clip, ask):
        place = len(clip) + round(10 * ask.temperature)
        more = {"temperature": ask.temperature, "looped": flags and place % 3 == 0, "silent": 0.7 * (place % 5 == 0)}
        return found(*rows[place % len(rows)], mean=means[place % len(means)], **more)

    return says


def holds(stretches, whole):
    """What every transcript is: stretches without a gap, segments in order, inside, and none over another."""
    assert (stretches[0].start, stretches[-1].end) == whole
    assert all(one.end == pytest.approx(other.start) for one, other in pairwise(stretches))
    segments = [segment for stretch in stretches for segment in stretch.segments]
    assert all(one.end <= other.start for one, other in pairwise(segments))
    for stretch in stretches:
        for segment in stretch.segments:
            assert stretch.start - 1e-3 <= segment.start <= segment.end <= stretch.end + 1e-3
            assert segment.text
            assert segment.tokens


LENGTHS = st.lists(st.sampled_from([0.1, 0.7, 3.0, 11.3, -2.0]), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(LENGTHS, random_says(), st.integers(1, 3), st.booleans())
def test_stretches_have_no_gap_and_segments_lie_inside_and_in_order_whatever_is_said(lengths, says, batch, guards):
    windows, search = laid(lengths), told(says)
    found = list(chunked(search, windows, ASK, Wishes(batch=batch, guards=guards)))
    assert [(one.start, one.end, one.speech) for one in found] == [(*each.covers, each.speech) for each in windows]
    holds(found, (windows[0].start, windows[-1].end))
    most = sum(len(TEMPERATURES) * (abs(each) / SMALLEST + 1) for each in lengths)
    assert len(search.asked) <= most


def test_what_is_behind_the_last_time_is_heard_again():
    texts = {0.0: (t(0.2), 1, t(2.0), t(2.0), 2, t(4.0)), 4.0: (t(0), 3, t(3.0)), 7.0: (t(0.5), 4, t(2.5))}
    search = told(lambda clip, ask: found(*texts[at(clip)]))
    [one] = chunked(search, [window(10.0)], ASK, Wishes())
    assert [(each.tokens, each.start, each.end) for each in one.segments] == [
        ((1,), 0.2, 2.0),
        ((2,), 2.0, 4.0),
        ((3,), 4.0, 7.0),
        ((4,), 7.5, 9.5),
    ]
    assert [[(at(clip), len(clip)) for clip in clips] for clips, *_ in search.asked] == [
        [(0.0, 100)],
        [(4.0, 60)],
        [(7.0, 30)],
    ]
    assert one.guards == ((UNHEARD, 2),)


@pytest.mark.parametrize(
    ("tokens", "speech", "guards", "marks"),
    [
        ((t(0), 1, t(9.0)), None, True, MARKS),  # ends soon enough
        ((t(0), 1, t(2), t(2), 2), None, True, MARKS),  # the last phrase lasts to the end
        ((t(0), 1, t(4)), [(0.0, 5.0)], True, MARKS),  # one second of speech is left
        ((t(0), 1, t(4)), None, False, MARKS),
        ((1, 2), None, True, None),
        ((t(0), t(4)), None, True, MARKS),  # no text
    ],
)
def test_a_window_is_heard_once_where_no_speech_is_left(tokens, speech, guards, marks):
    search = told(lambda clip, ask: found(*tokens))
    [one] = chunked(search, [window(10.0, speech=speech)], Ask(marks=marks), Wishes(guards=guards))
    assert len(search.asked) == 1
    assert one.guards == ()


def test_a_phrase_of_no_length_does_not_keep_a_window_from_ending():
    """False before: what was heard again was the same window, for ever."""
    search = told(lambda clip, ask: found(t(0), 1, t(0)))
    [one] = chunked(search, [window(6.0)], ASK, Wishes())
    assert [at(clip) for clips, *_ in search.asked for clip in clips] == pytest.approx(np.arange(0, 5.0, SMALLEST))
    assert len(one.segments) == len(search.asked)


def test_no_word_reaches_into_what_is_heard_again():
    """False before: an alignment could put words of the phrase before behind the first ones of the rest."""
    search = told(lambda clip, ask: found(t(0), 1, 2, t(2)), engine=Late())
    [one] = chunked(search, [window(10.0)], ASK, Wishes(words=True))
    assert len(search.asked) > 2
    assert all(len(segment.words) == 2 for segment in one.segments)
    holds([one], (0.0, 10.0))


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_windows_go_together_as_many_as_asked_for_and_silence_costs_nothing(batch):
    search = told(at_once)
    found = list(chunked(search, laid([1, -3, 1, 1, 1, -2]), ASK, Wishes(batch=batch)))
    assert max(len(clips) for clips, *_ in search.asked) <= batch
    assert [at(clip) for clips, *_ in search.asked for clip in clips] == [0, 4, 5, 6]
    assert [len(one.segments) for one in found] == [1, 0, 1, 1, 1, 0]


def test_a_stretch_is_finished_before_the_next_windows_are_read():
    read = []

    def coming():
        for each in laid([1, 1, 1, 1]):
            read.append(each.start)
            yield each

    stretches = chunked(told(at_once), coming(), ASK, Wishes(batch=2))
    assert next(stretches).end == 1
    assert read == [0, 1]


def test_a_language_is_that_of_the_first_window_with_speech():
    search = told(lambda clip, ask: found(t(0), 7, t(2), language=93 if at(clip) < 5 else 94), rules=OPEN_RULES)
    kept = list(chunked(search, laid([-2, 3, 3, 3]), ASK, Wishes(batch=4)))
    assert [len(clips) for clips, *_ in search.asked] == [1, 2]
    assert [rules.prompt[1] for *_, rules in search.asked] == [None, 93]
    assert LANGUAGES[93] == kept[1].segments[0].language == "de"
    assert search.rules.prompt == (START, None, OPEN_RULES.prompt[2])
