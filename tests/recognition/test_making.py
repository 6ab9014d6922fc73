from copy import deepcopy

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.recognition.making import Everything, Making
from sottovoce.recognition.speech_spans import PADDING, SpeechSpans
from sottovoce.recognition.voice import CHUNK, RATE

RUNS = st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.9]), st.sampled_from([2, 5, 8, 14, 40])), max_size=10).map(
    lambda runs: [probability for probability, length in runs for _ in range(length)]
)


class Likely:
    """Speech where the samples say how likely it is."""

    def __init__(self, behind=PADDING):
        self._spans, self._samples, self.behind = SpeechSpans(behind), 0, behind

    running = property(lambda self: self._spans.running)
    ended = property(lambda self: self._spans.ended)
    settled = property(lambda self: self._spans.settled)

    def feed(self, samples):
        self._samples += len(samples)
        return self._spans.feed(samples[::CHUNK].tolist())

    def finish(self):
        return self._spans.finish(self._samples)


def chunk(probability):
    return np.full(CHUNK, probability, np.float32)


def told(window):
    return (window.start, window.end, window.spans, window.covers, window.speech, window.samples.tobytes())


@settings(max_examples=40)
@given(RUNS, st.sampled_from([2, 30]), st.sampled_from([0.1, 0.2]))
def test_in_a_pause_the_open_window_is_the_one_that_comes_if_nobody_speaks_on(probabilities, most, behind):
    making = Making(RATE, most * RATE, 0, 0.2, Likely(round(behind * RATE)))
    for probability in probabilities:
        list(making.feed(chunk(probability)))
        window = making.open()
        if making.pause is None or window is None:
            continue
        coming, silent = [], deepcopy(making)
        while not coming:
            coming = list(silent.feed(chunk(0.0)))
        cut = making.pause + behind * RATE - round(window.start * RATE) > most * RATE  # it is longer than a window
        assert told(coming[0]) == told(window) or cut


@settings(max_examples=40)
@given(RUNS)
def test_the_open_window_is_no_longer_than_one_may_be_and_lies_behind_the_one_before(probabilities):
    making, end = Making(RATE, 2 * RATE, 0, 0.2, Likely()), 0.0
    for probability in probabilities:
        for window in making.feed(chunk(probability)):
            end = window.end
        window = making.open()
        if window is not None:
            assert end <= window.start < window.end <= making.end / RATE
            assert len(window.samples) == round((window.end - window.start) * RATE) <= 2 * RATE


def test_all_that_is_heard_without_detection_is_open():
    making = Making(RATE, 2 * RATE, 0, 0.2, Everything())
    assert list(making.feed(chunk(0.0))) == []
    assert making.open().end == CHUNK / RATE
    assert making.pause is None
    [window] = making.finish()
    assert window.spans == ((0.0, CHUNK / RATE),)


def test_it_wavers_from_where_speech_stops_until_that_is_a_pause():
    making, told = Making(RATE, 30 * RATE, 0, 0.2, Likely(1_600)), []
    for probability in [0.9] * 20 + [0.0] * 20:
        list(making.feed(chunk(probability)))
        told.append((making.wavering, making.pause is not None))
    assert told[10:20] == [(False, False)] * 10
    assert told[20:24] == [(True, False)] * 4
    assert set(told[24:]) == {(False, True)} | {(False, False)}
    assert told[24] == (False, True)
