"""Which spans of speech share a window, and where a span is cut that is longer than one.

Longer windows give a model more context, and a cut between words loses none: after the cut-and-merge of Bain et al.,
"WhisperX: Time-Accurate Speech Transcription of Long-Form Audio", Interspeech 2023, arXiv:2303.00747, as a stream.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sottovoce.recognition.speech_spans import Span

LATE = 2 / 3  # of a window, from which on a longer pause is a better place to end than a later one
CUT = 4 / 5  # of a window, from which on a span without a pause is cut
_QUIET, _STEP = 10, 100  # parts of a second: how long a quiet place is, and how finely it is looked for


class Cutter:
    """Takes the spans of a recording in order, in samples, and gives those of one window after the other.

    most      samples of a window
    least     samples that are left of a span that is cut
    apart     samples; spans with a longer pause between them share no window
    quietest  where to cut between two places
    """

    def __init__(self, most: int, least: int, apart: int, quietest: Callable[[int, int], int]) -> None:
        self._most, self._least, self._apart, self._quietest = most, least, apart, quietest
        self._spans: list[Span] = []  # of the next window
        self._cut = 0  # where the last span was cut

    def take(self, ended: Iterable[Span], running: Span | None, settled: int) -> Iterator[list[Span]]:
        """The windows that are certain, given the next spans and what SpeechSpans says of those that will follow."""
        for begin, end in ended:
            yield from self._make_room(begin, end)
            self._spans.append((max(begin, self._cut), end))
        if running is not None:
            yield from self._make_room(*running)
        if self._spans and settled - self._spans[-1][1] > self._apart:
            yield from self.finish()

    @property
    def spans(self) -> Sequence[Span]:
        """Of the window that comes next, those that were taken."""
        return self._spans

    def finish(self) -> Iterator[list[Span]]:
        """The last window, after the last span."""
        if self._spans:
            yield self._spans
            self._spans = []

    def needed(self, settled: int) -> int:
        """The first sample that a window to come may have."""
        return self._spans[0][0] if self._spans else max(settled, self._cut)

    def _make_room(self, begin: int, end: int) -> Iterator[list[Span]]:
        """The windows that must end before a span, or within one that reaches at least so far, as more do not fit."""
        begin = max(begin, self._cut)
        if self._spans and begin - self._spans[-1][1] > self._apart:
            yield from self.finish()
        while self._spans and end - self._spans[0][0] > self._most:
            count = best_pause([*self._spans, (begin, end)], self._most)
            yield self._spans[:count]
            self._spans = self._spans[count:]
        while not self._spans and end - begin > self._most:
            self._cut = self._quietest(begin + round(CUT * self._most), begin + self._most - self._least)
            yield [(begin, self._cut)]
            begin = self._cut


def best_pause(spans: Sequence[Span], most: int) -> int:
    """How many of the spans come before the pause that ends a window of `most` samples; all but the last one fit.

    The longest pause that begins in the window's last third; where there is none, the last one.
    """
    first = spans[0][0]
    late = [count for count in range(1, len(spans)) if spans[count - 1][1] - first >= LATE * most]
    return max(late, key=lambda count: (spans[count][0] - spans[count - 1][1], count), default=len(spans) - 1)


def quietest(samples: npt.NDArray[np.float32], rate: int) -> int:
    """The middle of the tenth of a second of least power, the last of several: its place among the samples."""
    length = min(rate // _QUIET, len(samples))
    sums = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=float))])
    power = (sums[length:] - sums[: len(sums) - length])[:: rate // _STEP]
    last = len(power) - 1 - int(power[::-1].argmin())
    return last * (rate // _STEP) + length // 2
