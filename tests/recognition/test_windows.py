import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.built_in import built_in_set
from sottovoce.recognition.cutting import Cutter, quietest
from sottovoce.recognition.speech_spans import SpeechSpans
from sottovoce.recognition.voice import CHUNK
from sottovoce.recognition.windows import windows
from sottovoce.speech import audio
from tests.reference import speech_spans as slow_spans
from tests.reference import windows as slow
from tests.tiers import in_turn

RATE = 16_000
RUNS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.4, 0.9]), st.sampled_from([2, 5, 8, 14, 40, 90, 200])), max_size=25
).map(lambda runs: [probability for probability, length in runs for _ in range(length)])
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 25 * 200 * CHUNK).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.fixture(scope="module")
def clips():
    folder = built_in_set("builtin:test")
    return [audio.read(folder / f"{number:04}.ogg") for number in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def talk(clips):
    """Silence, two clips with half a second between them, three seconds of silence, two more, five of silence."""
    one, two, three, four = clips
    return np.concatenate([silence(4), one, silence(0.5), two, silence(3), three, silence(0.8), four, silence(5)])


def cut_up(samples: np.ndarray, *lengths: int) -> list[np.ndarray]:
    blocks, at = [], 0
    while at < len(samples):
        blocks.append(samples[at : at + lengths[len(blocks) % len(lengths)]])
        at += len(blocks[-1])
    return blocks


@given(RUNS, st.sampled_from([1, 3, 10]), st.sampled_from([0, 1_600]), st.integers(1, 300))
def test_windows_are_those_that_are_made_when_all_spans_are_known(probabilities, seconds, least, step):
    most, samples = seconds * RATE, CHUNK * len(probabilities)
    spans = SpeechSpans()
    cutter = Cutter(most, least, 2 * RATE, lambda begin, end: begin + quietest(NOISE[begin:end], RATE))
    found = []
    for at in range(0, len(probabilities), step):
        found += cutter.take(spans.feed(probabilities[at : at + step]), spans.running, spans.settled)
    found += cutter.take(spans.finish(samples), None, 0)
    found += cutter.finish()
    assert found == slow.windows(slow_spans.spans(probabilities, samples), NOISE, RATE, most, least)


@pytest.mark.parametrize(("vad", "lengths"), in_turn([True, False], [(160,), (RATE,), (100_000, 1), (10**9,)]))
def test_how_a_recording_is_cut_into_blocks_changes_nothing(talk, vad, lengths):
    once = list(windows([talk], RATE, 6.0, vad=vad))
    again = list(windows(cut_up(talk, *lengths), RATE, 6.0, vad=vad))
    assert [(w.start, w.end, w.spans, w.covers) for w in once] == [(w.start, w.end, w.spans, w.covers) for w in again]
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


@pytest.mark.parametrize(("vad", "start", "most"), in_turn([True, False], [0.0, 100.0], [2.0, 8.0, 30.0]))
def test_the_recording_is_covered_without_a_gap_and_each_window_has_its_samples(talk, vad, start, most):
    found = list(windows(cut_up(talk, RATE), RATE, most, vad=vad, start=start))
    assert found[0].covers[0] == start
    assert found[-1].covers[1] == start + len(talk) / RATE
    for before, window in pairwise(found):
        assert before.covers[1] == window.covers[0]
    for window in found:
        begin, end = (round((place - start) * RATE) for place in (window.start, window.end))
        np.testing.assert_array_equal(window.samples, talk[begin:end] if window.spans else silence(0))
        assert window.covers[0] <= window.start
        assert window.covers[1] == window.end
        assert window.end - window.start <= most or not window.spans
        assert window.speech == pytest.approx(sum(end - begin for begin, end in window.spans))


def test_pauses_of_more_than_two_seconds_share_no_window_and_shorter_ones_do(talk, clips):
    first, second, rest = windows([talk], RATE, 30.0)
    lengths = [len(clip) / RATE for clip in clips]
    assert first.start == pytest.approx(4, abs=0.4)
    assert first.end == pytest.approx(4 + lengths[0] + 0.5 + lengths[1], abs=0.4)
    assert second.start == pytest.approx(first.end + 3, abs=0.6)
    assert (rest.samples.size, rest.spans, rest.speech) == (0, (), 0.0)
    assert sum(window.speech for window in (first, second)) == pytest.approx(sum(lengths), abs=1.5)


def test_a_window_ends_in_the_longest_pause_of_its_last_third(clips):
    """Pauses at about 5.2, 10.2 and 11.2 seconds, of which the second is the longest."""
    parts = [(clips[0], 1.5), (clips[1], 1.2), (clips[2][: RATE * 3 // 2], 0.5), (clips[3], 0)]
    talk = np.concatenate([part for clip, gap in parts for part in (clip, silence(gap))])
    first, *_ = windows([talk], RATE, 15.0)
    assert first.end == pytest.approx(len(clips[0]) / RATE + 1.5 + len(clips[1]) / RATE, abs=0.4)


def test_without_vad_all_of_the_recording_is_in_windows_cut_where_it_is_quietest():
    noise = NOISE[: 20 * RATE].copy()
    for second in (4.5, 8.2):
        noise[round((second - 0.1) * RATE) : round((second + 0.1) * RATE)] *= 0.01
    found = list(windows(cut_up(noise, 1_000), RATE, 5.0, vad=False))
    np.testing.assert_array_equal(np.concatenate([window.samples for window in found]), noise)
    assert [window.end for window in found[:2]] == pytest.approx([4.5, 9.0], abs=0.51)
    assert found[0].end == pytest.approx(4.5, abs=0.1)
    assert all(4.0 <= window.end - window.start <= 5.0 for window in found[:-1])


def test_what_is_left_of_a_cut_span_is_no_shorter_than_the_model_takes():
    for samples in range(5 * RATE, 6 * RATE, 777):
        *_, last = windows([NOISE[:samples]], RATE, 5.0, least_samples=8_000, vad=False)
        assert len(last.samples) >= 8_000


def test_a_recording_shorter_than_the_model_takes_is_filled_up_with_zeros():
    (window,) = windows([NOISE[:100]], RATE, 30.0, least_samples=400, vad=False)
    assert window.end == 100 / RATE
    np.testing.assert_array_equal(window.samples, np.pad(NOISE[:100], (0, 300)))


@pytest.mark.parametrize("vad", [True, False])
def test_silence_is_covered_and_nothing_has_no_windows(vad):
    found = list(windows([silence(40)], RATE, 30.0, vad=vad))
    assert (found[0].covers[0], found[-1].covers[1]) == (0, 40)
    assert [window.samples.size > 0 for window in found] == ([False] if vad else [True, True])
    assert list(windows([], RATE, 30.0, vad=vad)) == []


@pytest.mark.parametrize("vad", [True, False])
def test_memory_is_that_of_about_two_windows(talk, vad):
    list(windows([talk], RATE, 5.0, vad=vad))
    tracemalloc.start()
    samples = sum(len(window.samples) for window in windows((talk for _ in range(8)), RATE, 5.0, vad=vad))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples > 130 * RATE
    assert peak < 4 * (4 * 5 * RATE) + 3 * talk.nbytes  # pieces are made of a block, of which two are there


def test_what_cannot_be_is_refused_before_the_first_block():
    with pytest.raises(ValueError, match=r"voice activity detection takes samples at 16000 Hz, not at 8000; leave it"):
        windows([], 8_000, 30.0)
    with pytest.raises(ValueError, match=r"windows of 1.0 s are too short .* 4400 samples; more than 1.4 s would do"):
        windows([], RATE, 1.0, least_samples=4_400)
