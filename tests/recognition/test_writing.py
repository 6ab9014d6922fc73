"""From a try to segments, and from segments to a stretch."""

import pytest

from sottovoce.recognition.guards import LOOP, PHRASE, SILENCE, compression_ratio
from sottovoce.recognition.segment import Segment
from sottovoce.recognition.tries import Try
from sottovoce.recognition.writing import segments_of, stretch
from tests.recognition.fakes import MARKS, Frontend, found, t, window


class Words(Frontend):
    """Tokens 0 to 4 are the words that a Whisper makes up, 9 is no text."""

    def text(self, tokens):
        words = ["Thank", "you", "for", "watching."]
        return " ".join(words[token] if token < 4 else f"w{token}" for token in tokens if token < 90 and token != 9)


def written(one, seconds=10.0, guarded=True, guards=(), marks=MARKS, speech=None):
    return segments_of(Try(one, guards), Words(), marks, window(seconds, 100.0, speech), guarded)


def test_a_segment_tells_all_that_is_known_of_it():
    one = found(t(0.5), 5, 6, t(2.0), t(2.5), 7, mean=-0.25, language=93, temperature=0.2, silent=0.1)
    segments, guards = written(one, guards=(LOOP,))
    assert guards == (LOOP,)
    told = {
        "language": "de",
        "average_log_probability": pytest.approx(-0.25),
        "no_speech_probability": 0.1,
        "temperature": 0.2,
        "guards": (LOOP,),
    }
    assert segments == [
        Segment("w5 w6", 100.5, 102.0, tokens=(5, 6), compression_ratio=compression_ratio("w5 w6"), **told),
        Segment("w7", 102.5, 110.0, tokens=(7,), compression_ratio=compression_ratio("w7"), **told),
    ]


def test_a_phrase_without_text_is_no_segment():
    assert written(found(t(0), 9, t(1), t(1), 5, t(2)))[0][0].start == 101.0
    assert written(found()) == ([], ())
    assert written(found(t(0), t(1), mean=-2.0, silent=0.9)) == ([], ())  # nothing is there to be left out


@pytest.mark.parametrize(
    ("one", "speech", "guard"),
    [
        (found(t(0), 0, 1, 2, 3, t(2)), [(100.0, 101.5)], PHRASE),
        (found(t(0), 5, 6, t(2), mean=-2.0, silent=0.9), None, SILENCE),
    ],
)
def test_what_a_guard_leaves_out_is_told_and_only_where_guards_are_asked_for(one, speech, guard):
    assert written(one, speech=speech, guards=(LOOP,)) == ([], (LOOP, guard))
    segments, guards = written(one, speech=speech, guarded=False)
    assert (len(segments), guards) == (1, ())


def test_a_phrase_of_subtitles_behind_real_speech_stays():
    [segment], guards = written(found(t(0), 0, 1, 2, 3, t(2)), speech=[(100.0, 105.0)])
    assert (segment.text, guards) == ("Thank you for watching.", ())


def test_without_times_a_window_is_one_segment():
    [segment], _ = written(found(5, 6, 7), marks=None)
    assert (segment.start, segment.end, segment.tokens) == (100.0, 110.0, (5, 6, 7))


def test_a_stretch_counts_how_often_each_guard_fired():
    made = stretch(window(4.0, 6.0), [], ["loop", "compression", "loop"])
    assert (made.start, made.end, made.speech) == (6.0, 10.0, 4.0)
    assert made.guards == (("compression", 1), ("loop", 2))
