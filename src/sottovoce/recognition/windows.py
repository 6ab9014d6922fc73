"""A recording as the windows that a model hears, made as it is read: what is speech in it, cut where nobody speaks."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sottovoce.recognition.cutting import CUT, Cutter, quietest
from sottovoce.recognition.speech_spans import Span, SpeechSpans
from sottovoce.recognition.voice import RATE, Voice
from sottovoce.recognition.window import Window

Samples = npt.NDArray[np.float32]

APART = 2.0  # seconds; spans of speech with a longer pause between them share no window
_NOTHING: Samples = np.zeros(0, np.float32)


def windows(
    blocks: Iterable[Samples],
    rate: int,
    most_seconds: float,
    least_samples: int = 0,
    vad: bool = True,
    start: float = 0.0,
) -> Iterator[Window]:
    """The windows of a recording in order, each as long as it can be, of which about two are in memory at a time.

    blocks         (n,) float32 each, of any length; how they are cut changes nothing
    rate           of the samples, Hz
    most_seconds   of a window
    least_samples  of a clip that the model takes
    vad            leave out what is taken for no speech; otherwise all of the recording is one span of speech
    start          seconds of the recording at which the first block begins

    A window ends in the longest pause of its last third. A span that is longer than a window is cut where the last
    fifth of the window is quietest. Where a recording ends in silence, the last window has no samples.
    Raises ValueError for windows that are too short for the model's shortest clip, and for `vad` at another rate than
    16 kHz.
    """
    most = int(most_seconds * rate)
    if least_samples >= (1 - CUT) * most:
        raise ValueError(
            f"windows of {most_seconds} s are too short for a model that takes no less than {least_samples} samples; "
            f"more than {least_samples / (1 - CUT) / rate:.1f} s would do"
        )
    if vad and rate != RATE:
        raise ValueError(
            f"voice activity detection takes samples at {RATE} Hz, not at {rate}; leave it off for this model"
        )
    return _windows(_pieces(blocks, rate), rate, most, least_samples, _Speech() if vad else _Everything(), start)


class _Heard(Protocol):
    """Where speech is in what was heard so far; `running` and `settled` as SpeechSpans says."""

    @property
    def running(self) -> Span | None: ...
    @property
    def settled(self) -> int: ...

    def feed(self, samples: Samples) -> Sequence[Span]: ...
    def finish(self) -> Sequence[Span]: ...


class _Everything:
    """All that is heard is one span of speech."""

    settled = 0

    def __init__(self) -> None:
        self._samples = 0

    @property
    def running(self) -> Span | None:
        return (0, self._samples)

    def feed(self, samples: Samples) -> Sequence[Span]:
        self._samples += len(samples)
        return ()

    def finish(self) -> Sequence[Span]:
        return [(0, self._samples)] if self._samples else ()


class _Speech:
    """What the voice activity detection takes for speech."""

    def __init__(self) -> None:
        self._voice, self._spans, self._samples = Voice(), SpeechSpans(), 0

    @property
    def running(self) -> Span | None:
        return self._spans.running

    @property
    def settled(self) -> int:
        return self._spans.settled

    def feed(self, samples: Samples) -> Sequence[Span]:
        self._samples += len(samples)
        return self._spans.feed(self._voice.probabilities(samples))

    def finish(self) -> Sequence[Span]:
        return self._spans.feed(self._voice.rest()) + self._spans.finish(self._samples)


class _Recording:
    """The last samples of what was heard, by their places in the whole."""

    def __init__(self, rate: int) -> None:
        self._samples, self._begin, self._rate = _NOTHING, 0, rate

    @property
    def end(self) -> int:
        return self._begin + len(self._samples)

    def add(self, samples: Samples, needed: int) -> None:
        """More samples; those before `needed` are let go."""
        self._samples = np.concatenate([self._samples[max(needed - self._begin, 0) :], samples])
        self._begin = max(self._begin, needed)

    def part(self, begin: int, end: int) -> Samples:
        return self._samples[begin - self._begin : end - self._begin].copy()

    def quietest(self, begin: int, end: int) -> int:
        return begin + quietest(self.part(begin, end), self._rate)


def _windows(
    pieces: Iterable[Samples], rate: int, most: int, least: int, heard: _Heard, start: float
) -> Iterator[Window]:
    recording, covered = _Recording(rate), 0
    cutter = Cutter(most, least, round(APART * rate), recording.quietest)

    def told(groups: Iterable[Sequence[Span]]) -> Iterator[Window]:
        nonlocal covered
        for spans in groups:
            samples = recording.part(spans[0][0], spans[-1][1])
            yield _window(spans, covered, np.pad(samples, (0, max(least - len(samples), 0))), rate, start)
            covered = spans[-1][1]

    for piece in pieces:
        recording.add(piece, cutter.needed(heard.settled))
        yield from told(cutter.take(heard.feed(piece), heard.running, heard.settled))
    yield from told(cutter.take(heard.finish(), None, 0))
    yield from told(cutter.finish())
    if covered < recording.end:
        covers = (start + covered / rate, start + recording.end / rate)
        yield Window(*covers, 0.0, _NOTHING, covers, ())


def _window(spans: Sequence[Span], covered: int, samples: Samples, rate: int, start: float) -> Window:
    seconds = tuple((start + begin / rate, start + end / rate) for begin, end in spans)
    speech = sum(end - begin for begin, end in spans) / rate
    end = seconds[-1][1]
    return Window(seconds[0][0], end, speech, samples, (start + covered / rate, end), seconds)


def _pieces(blocks: Iterable[Samples], length: int) -> Iterator[Samples]:
    """The same samples in pieces of one length, the last one apart."""
    held: list[Samples] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= length:
            samples = np.concatenate(held)
            whole = len(samples) // length * length
            yield from np.split(samples[:whole], whole // length)
            held = [samples[whole:]]
    if held:
        yield np.concatenate(held)
