"""Windows in the making: samples go in piece by piece, windows come out as soon as they are certain."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sottovoce.recognition.cutting import Cutter, quietest
from sottovoce.recognition.speech_spans import PADDING, Span, SpeechSpans
from sottovoce.recognition.voice import Voice
from sottovoce.recognition.window import Window

Samples = npt.NDArray[np.float32]

_NOTHING: Samples = np.zeros(0, np.float32)


class Heard(Protocol):
    """Where speech is in what was heard so far; `behind`, `running`, `ended`, `settled` as SpeechSpans says."""

    @property
    def behind(self) -> int: ...  # noqa: D102
    @property
    def running(self) -> Span | None: ...  # noqa: D102
    @property
    def ended(self) -> Span | None: ...  # noqa: D102
    @property
    def settled(self) -> int: ...  # noqa: D102

    def feed(self, samples: Samples) -> Sequence[Span]: ...  # noqa: D102
    def finish(self) -> Sequence[Span]: ...  # noqa: D102


class Everything:
    """All that is heard is one span of speech."""

    settled = behind = 0
    ended = None

    def __init__(self) -> None:
        self._samples = 0

    @property
    def running(self) -> Span | None:
        """All of it."""
        return (0, self._samples)

    def feed(self, samples: Samples) -> Sequence[Span]:
        """Nothing ends before the recording does."""
        self._samples += len(samples)
        return ()

    def finish(self) -> Sequence[Span]:
        """The one span."""
        return [(0, self._samples)] if self._samples else ()


class Speech:
    """What the voice activity detection takes for speech."""

    def __init__(self, behind: int = PADDING) -> None:
        self._voice, self._spans, self._samples, self.behind = Voice(), SpeechSpans(behind), 0, behind

    @property
    def running(self) -> Span | None:
        """As SpeechSpans'."""
        return self._spans.running

    @property
    def ended(self) -> Span | None:
        """As SpeechSpans'."""
        return self._spans.ended

    @property
    def settled(self) -> int:
        """As SpeechSpans'."""
        return self._spans.settled

    def feed(self, samples: Samples) -> Sequence[Span]:
        """The spans that are certain with these samples."""
        self._samples += len(samples)
        return self._spans.feed(self._voice.probabilities(samples))

    def finish(self) -> Sequence[Span]:
        """The last ones."""
        return self._spans.finish(self._samples, self._voice.rest())


class Making:
    """Makes the windows of a recording, of which about two are in memory.

    rate   of the samples, Hz
    most   samples of a window; least: of a clip that the model takes
    apart  seconds; spans of speech with a longer pause between them share no window
    start  second of the recording at which the first piece begins

    The places where it cuts follow the pieces' ends where a window is full: the same pieces give the same windows.
    """

    def __init__(self, rate: int, most: int, least: int, apart: float, heard: Heard, start: float = 0.0) -> None:
        self._rate, self._most, self._least, self._heard, self._start = rate, most, least, heard, start
        self._samples, self._begin = _NOTHING, 0  # the last ones that were heard, and the place of the first of them
        self._covered = 0
        self._cutter = Cutter(most, least, round(apart * rate), self._quietest)

    @property
    def end(self) -> int:
        """Samples that were heard."""
        return self._begin + len(self._samples)

    def feed(self, piece: Samples) -> Iterator[Window]:
        """The windows that are certain with the next samples."""
        heard, cutter = self._heard, self._cutter
        needed = cutter.needed(heard.settled)
        self._samples = np.concatenate([self._samples[max(needed - self._begin, 0) :], piece])
        self._begin = max(self._begin, needed)
        yield from self._told(cutter.take(heard.feed(piece), heard.running, heard.settled))

    def finish(self) -> Iterator[Window]:
        """The last windows; one without samples where the recording ends in silence."""
        yield from self._told(self._cutter.take(self._heard.finish(), None, 0))
        yield from self._told(self._cutter.finish())
        if self._covered < self.end:
            covers = (self._start + self._covered / self._rate, self._start + self.end / self._rate)
            yield Window(*covers, 0.0, _NOTHING, covers, ())

    def open(self) -> Window | None:
        """The window that comes next, as far as it was heard; None where nobody has spoken since the last one.

        Where a pause has begun and its padding was heard, it is the very window that comes if nobody speaks on.
        """
        spans, heard = list(self._cutter.spans), self._heard
        if heard.ended is not None:
            spans.append((heard.ended[0], min(heard.ended[1] + heard.behind, self.end)))
        if heard.running is not None:
            spans.append((heard.running[0], self.end))
        if not spans:
            return None
        first = max(spans[0][0], self._cutter.needed(heard.settled), self._begin)
        last = first + self._most
        kept = [(max(begin, first), min(end, last)) for begin, end in spans if begin < last and end > first]
        return self._window(kept) if kept else None

    @property
    def pause(self) -> int | None:
        """Where speech ended that a pause of at least the padding follows; None while somebody speaks."""
        heard, spans = self._heard, self._cutter.spans
        if heard.running is not None:
            return None
        if heard.ended is not None:
            return heard.ended[1] if self.end >= heard.ended[1] + heard.behind else None
        return spans[-1][1] - heard.behind if spans else None

    @property
    def wavering(self) -> bool:
        """Whether nobody speaks at this moment, and it is open whether a pause begins."""
        heard = self._heard
        return self.pause is None and (heard.ended is not None or (heard.running or (0, self.end))[1] < self.end)

    def _told(self, groups: Iterable[Sequence[Span]]) -> Iterator[Window]:
        for spans in groups:
            yield self._window(spans)
            self._covered = spans[-1][1]

    def _window(self, spans: Sequence[Span]) -> Window:
        samples, rate, start = self._part(spans[0][0], spans[-1][1]), self._rate, self._start
        seconds = tuple((start + begin / rate, start + end / rate) for begin, end in spans)
        speech = sum(end - begin for begin, end in spans) / rate
        padded = np.pad(samples, (0, max(self._least - len(samples), 0)))
        covers = (start + self._covered / rate, seconds[-1][1])
        return Window(seconds[0][0], seconds[-1][1], speech, padded, covers, seconds)

    def _part(self, begin: int, end: int) -> Samples:
        return self._samples[begin - self._begin : end - self._begin].copy()

    def _quietest(self, begin: int, end: int) -> int:
        return begin + quietest(self._part(begin, end), self._rate)
