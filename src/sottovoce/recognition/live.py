"""Speech to text while it is being said: samples go in as they come, partial and final texts come out.

A segment opens with speech and closes after a pause, or where it is as long as the model takes. Its final text is that
of its whole audio, transcribed as a file's; so it is the same however fast the samples come and however they are cut.
Partial texts come in between, as often as there is time for them. As soon as a pause begins, the segment is
transcribed as if it were closed: if nobody speaks on, that is its final text, and nobody waits for it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sottovoce.recognition.chunked import transcribed
from sottovoce.recognition.drafts import Opened
from sottovoce.recognition.making import Making, Speech
from sottovoce.recognition.searches import Search
from sottovoce.recognition.segment import Segment, Stretch
from sottovoce.recognition.speech_spans import PADDING
from sottovoce.recognition.transcriber import Transcriber
from sottovoce.recognition.updates import Partial, Updates
from sottovoce.recognition.voice import CHUNK, RATE
from sottovoce.recognition.window import Window
from sottovoce.recognition.wishes import Wishes

BEHIND = RATE // 10  # samples of silence at a segment's end: less than in a file, where nobody waits for them
SHORTEST_SILENCE = (BEHIND + PADDING) / RATE  # seconds: they, and the padding before the next speech
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Final:
    """A segment that will not change.

    spoken_until  second of the stream at which it had been said: its end, without the silence that pads a window
    """

    segment: Segment
    spoken_until: float


Heard = Partial | Final


class Live:
    """Hears one stream of speech. `Live.of` begins one; `feed` it, and `finish` it when it ends."""

    def __init__(
        self,
        transcriber: Transcriber,
        making: Making,
        partial_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._search, self._wishes = transcriber.search, transcriber.wishes
        self._ask = transcriber.ask(times=True)
        self._making, self._clock, self._rate = making, clock, self._search.frontend.sampling_rate
        self._apart = round(partial_seconds * self._rate) if math.isfinite(partial_seconds) else None
        self._left: Samples = np.zeros(0, np.float32)  # less than a chunk
        self._late = 0.0  # seconds of work that no audio has come for yet
        self._updates: Updates | None = None  # of the open segment, once it was shown
        self._shown = 0  # samples that the last partial heard
        self._draft: tuple[Window, Stretch, Search] | None = None  # of the open segment, as if it were closed
        self._finished = False

    @staticmethod
    def of(
        recognizer: Opened,
        wishes: Wishes | None = None,
        *,
        partial_seconds: float = 0.5,
        silence_seconds: float = 0.6,
        clock: Callable[[], float] = time.monotonic,
    ) -> "Live":
        """A stream for a model that is ready.

        partial_seconds  of audio between two partial texts, at least; math.inf for none
        silence_seconds  without speech, after which a segment is closed
        clock            seconds; tells how long an update takes, and so how many partials there is time for

        Raises ValueError for wishes that the model or a stream cannot do, and for seconds that cannot be.
        """
        wishes = wishes or Wishes()
        transcriber = Transcriber.of(recognizer, wishes)
        frontend = recognizer.frontend
        _check(wishes, frontend.sampling_rate, partial_seconds, silence_seconds)
        most = int(transcriber.window_seconds * RATE)
        making = Making(RATE, most, frontend.bounds.least_samples, silence_seconds - SHORTEST_SILENCE, Speech(BEHIND))
        return Live(transcriber, making, partial_seconds, clock)

    @property
    def seconds(self) -> float:
        """Of the stream, that were fed."""
        return (self._making.end + len(self._left)) / self._rate

    def feed(self, samples: Samples) -> list[Heard]:
        """What is new with the next samples, (n,) float32 at the model's rate; at most one partial, which comes last.

        A partial is left out while earlier work took longer than the audio that has come since; a final never is.
        """
        assert not self._finished, "a stream that was finished takes no more"
        began, self._late = self._clock(), max(0.0, self._late - len(samples) / self._rate)
        told: list[Heard] = []
        samples = np.concatenate([self._left, samples])
        whole = len(samples) // CHUNK * CHUNK
        self._left = samples[whole:].copy()
        for at in range(0, whole, CHUNK):
            for window in list(self._making.feed(samples[at : at + CHUNK])):
                told += self._close(window)
        if self._apart is not None and not self._late:
            told += self._open()
        self._late += self._clock() - began
        return told

    def finish(self) -> list[Heard]:
        """The last finals, when the stream ends."""
        assert not self._finished, "a stream is finished once"
        self._finished = True
        windows = [*self._making.feed(self._left), *self._making.finish()]
        return [heard for window in windows for heard in self._close(window)]

    def _close(self, window: Window) -> list[Heard]:
        """The finals of a segment; an empty partial where one was shown of which nothing is left."""
        draft, updates, self._draft, self._updates = self._draft, self._updates, None, None
        if not len(window.samples):
            return []
        if draft is None or not _same(draft[0], window):
            draft = self._transcribed(window)
        _, stretch, self._search = draft
        until = window.end - BEHIND / self._rate
        finals: list[Heard] = [Final(segment, min(segment.end, until)) for segment in stretch.segments]
        return finals or ([Partial("", "", window.start, window.end)] if updates else [])

    def _open(self) -> list[Heard]:
        """The next partial of what is being said, if it is time for one."""
        window = self._making.open()
        if window is None:
            return []
        if self._making.pause is not None:
            return self._paused(window)
        last = round(window.start * self._rate) if self._updates is None else self._shown
        if self._making.wavering or self._making.end - last < (self._apart or 0):
            return []  # a pause that begins is to find the processor free
        return self._show((self._updates or Updates()).with_window(self._search, window, self._ask, self._wishes))

    def _paused(self, window: Window) -> list[Heard]:
        """What is final if nobody speaks on, once for each pause."""
        if self._draft is not None and _same(self._draft[0], window):
            return []
        self._draft = self._transcribed(window)
        agreeing = self._search.frontend.marks is not None
        segments = self._draft[1].segments
        return self._show((self._updates or Updates()).with_segments(segments, window, agreeing=agreeing))

    def _show(self, update: tuple[Updates, Partial]) -> list[Heard]:
        self._updates, partial = update
        self._shown = self._making.end
        return [partial]

    def _transcribed(self, window: Window) -> tuple[Window, Stretch, Search]:
        [stretch], search = transcribed(self._search, [window], self._ask, self._wishes)
        return window, stretch, search


def _same(one: Window, other: Window) -> bool:
    return one.spans == other.spans and len(one.samples) == len(other.samples)


def _check(wishes: Wishes, rate: int, partial_seconds: float, silence_seconds: float) -> None:
    if wishes.method != "chunked" or not wishes.vad:
        raise ValueError(
            "a stream is cut where nobody speaks, and each piece is transcribed alone; "
            "method chunked with vad would work"
        )
    if rate != RATE:
        raise ValueError(f"a stream is heard at {RATE} Hz, and this model takes {rate}; transcribe a file with vad off")
    if not partial_seconds > 0:
        raise ValueError(f"partial_seconds={partial_seconds:g}: more than 0 would work")
    if not SHORTEST_SILENCE <= silence_seconds < math.inf:
        raise ValueError(f"silence_seconds={silence_seconds:g}: at least {SHORTEST_SILENCE:g} would work")
