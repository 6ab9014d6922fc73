import math
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sottovoce
from sottovoce.built_in import built_in_set
from sottovoce.recognition.live import Final, Live
from sottovoce.recognition.local_agreement import words_of
from sottovoce.recognition.sampling import Found
from sottovoce.recognition.updates import Partial
from sottovoce.recognition.voice import RATE
from sottovoce.recognition.wishes import Wishes
from sottovoce.speech import audio
from tests.recognition.live_fakes import ENGLISH, OPEN_RULES, START, heard, live, whisper
from tests.tiers import one_fast


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.float32)


def clip(number):
    return audio.read(built_in_set("builtin:test") / f"{number:04}.ogg")


@pytest.fixture(scope="module")
def talk():
    """Two parts of clips with a short pause between them, a longer one, a third part, and silence: 13 seconds."""
    parts = [clip(1)[: 4 * RATE], silence(0.3), clip(2)[: 3 * RATE], silence(1.2), clip(3)[: 3 * RATE], silence(1)]
    return np.concatenate([silence(0.5), *parts])


def cut_up(samples, lengths):
    at, place = 0, 0
    while at < len(samples):
        yield samples[at : at + lengths[place % len(lengths)]]
        at, place = at + lengths[place % len(lengths)], place + 1


def listened(stream, samples, lengths=(1_600,)):
    told = [one for block in cut_up(samples, lengths) for one in stream.feed(block)]
    return told + stream.finish()


def finals(told):
    return [(one.segment, one.spoken_until) for one in told if isinstance(one, Final)]


def partials(told):
    """Those of one segment after the other."""
    groups = groupby(told, lambda one: isinstance(one, Final))
    return [list(group) for final, group in groups if not final]


@settings(max_examples=6, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([1, 100, 511, 1_600, 30_000]), min_size=1, max_size=4),
    took=st.sampled_from([0.0, 0.3, 2.0]),
    says=st.sampled_from([heard, whisper]),
    most=st.sampled_from([4.0, 30.0]),
)
def test_neither_blocks_nor_pace_change_a_final(talk, lengths, took, says, most):
    if max(lengths) < 500:
        lengths = [*lengths, 1_600]  # or it takes too long
    once = listened(live(says, most=most, partial_seconds=math.inf)[0], talk, (10**9,))
    again = listened(live(says, took, most)[0], talk, lengths)
    assert finals(once) == finals(again)
    assert finals(once)


@pytest.mark.parametrize("says", [heard, whisper])
@pytest.mark.parametrize("most", [3.0, 30.0])
def test_finals_follow_each_other_without_overlap(talk, says, most):
    found = [segment for segment, _ in finals(listened(live(says, most=most)[0], talk))]
    assert all(before.end <= after.start for before, after in pairwise(found))
    assert all(0 <= segment.start < segment.end <= len(talk) / RATE for segment in found)
    assert all(segment.end - segment.start <= most for segment in found)


def test_a_segment_closes_after_the_silence_that_was_asked_for(talk):
    short, long = (listened(live(silence=seconds)[0], talk) for seconds in (0.6, 3.0))
    assert len(finals(short)) > len(finals(long)) == 1


@pytest.mark.parametrize("took", [0.0, 0.4])
def test_what_is_certain_in_a_segment_never_changes(talk, took):
    told = listened(live(whisper, took)[0], talk)
    for segment in partials(told):
        for before, after in pairwise(segment):
            assert words_of(after.committed, "en")[: len(words_of(before.committed, "en"))] == words_of(
                before.committed, "en"
            )
            assert after.text.startswith(after.committed)
    assert any(one.committed for one in told if isinstance(one, Partial))


def test_a_model_without_times_hears_the_open_segment_anew_and_nothing_is_certain(talk):
    stream, search = live()
    told = listened(stream, talk)
    assert {one.committed for one in told if isinstance(one, Partial)} == {""}
    assert max(map(len, search.asked)) > 5 * RATE


def test_of_a_long_segment_the_phrases_that_are_certain_are_not_heard_again():
    samples = np.concatenate([clip(1), clip(2), clip(3), clip(4)])
    work = {}
    for says in (heard, whisper):
        stream, search = live(says)
        told = listened(stream, samples)
        work[says] = sum(map(len, search.asked))
        assert max(one.end - one.start for one in told if isinstance(one, Partial)) > 8
    assert work[whisper] < 0.6 * work[heard]


def test_partials_come_as_often_as_asked_and_none_where_none_are_wanted(talk):
    often, seldom, never = (listened(live(partial_seconds=seconds)[0], talk) for seconds in (0.5, 2.0, math.inf))
    assert len(often) > len(seldom) > len(never) == len(finals(never))


def test_where_updates_take_longer_than_the_audio_partials_are_left_out_and_finals_are_not(talk):
    quick, slow = live(), live(took=1.7)
    at_ease, pressed = listened(quick[0], talk), listened(slow[0], talk)
    assert finals(at_ease) == finals(pressed)
    seconds = len(talk) / RATE
    assert 0 < len(pressed) - len(finals(pressed)) < (len(at_ease) - len(finals(at_ease))) / 2
    assert slow[1].clock[0] < seconds + 4 * 1.7  # the work of partials fits into the time of the audio


def test_a_final_was_found_when_its_pause_began(talk):
    stream, search = live()
    before, asked = [], []
    for block in cut_up(talk, (1_600,)):
        count = len(search.asked)
        told = stream.feed(block)
        if any(isinstance(one, Final) for one in told):
            asked.append(len(search.asked) - count)
        before += told
    assert asked == [0] * len(finals(before))
    drafts = [group[-1] for group in partials(before)]
    assert [one.text for one in drafts] == [segment.text for segment, _ in finals(before)]


def test_the_language_is_that_of_the_first_final_whatever_partials_took_it_for(talk):
    found = {}
    for took, lengths in ((0.0, (1_600,)), (0.5, (777,)), (0.0, (10**9,))):
        told = listened(live(rules=OPEN_RULES, took=took)[0], talk, lengths)
        found[took, lengths] = [segment.language for segment, _ in finals(told)]
    assert len(set(map(tuple, found.values()))) == 1
    assert len(set(next(iter(found.values())))) == 1


def test_a_partial_of_which_nothing_is_left_is_taken_away(talk):
    def doubtful(clip, rules):
        long = len(clip) > 2 * RATE
        return Found((START, ENGLISH), (1, 2), -9.0 if long else -0.1, 0.9 if long else 0.0)

    told = listened(live(doubtful, guards=True)[0], talk)
    assert finals(told) == []
    assert any(one.text for one in told)
    assert told[-1].text == ""


def test_silence_gives_nothing():
    stream, search = live()
    assert listened(stream, silence(5)) == []
    assert search.asked == []
    assert live()[0].finish() == []


@pytest.mark.parametrize(("name", "number"), list(one_fast(["builtin:moonshine", "builtin:whisper"], [2, 7])))
def test_the_final_text_of_a_built_in_model_is_that_of_the_file(name, number):
    recognizer, samples = sottovoce.load(name), clip(number)
    told = listened(Live.of(recognizer, Wishes(), clock=lambda: 0.0), samples, (4_000,))
    assert " ".join(segment.text for segment, _ in finals(told)) == recognizer.transcribe(samples).text
    assert any(isinstance(one, Partial) for one in told)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"wishes": Wishes(vad=False)}, "method chunked with vad would work"),
        ({"wishes": Wishes(method="sequential")}, "method chunked with vad would work"),
        ({"silence_seconds": 0.2}, "at least 0.3"),
        ({"silence_seconds": math.nan}, "at least 0.3"),
        ({"partial_seconds": 0.0}, "more than 0"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(asked, message):
    recognizer = sottovoce.load("builtin:whisper")
    with pytest.raises(ValueError, match=message):
        Live.of(recognizer, **asked)
