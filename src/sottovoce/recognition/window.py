"""A window of a recording, as a model hears it at once; what it accounts for of the recording around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of a recording from the start of its first span of speech to the end of its last.

    start, end  seconds of the recording
    speech      seconds of its spans
    samples     (n,) float32 from start to end at the model's rate, with zeros behind them where the model takes no clip
                that short; none where a stretch of the recording holds no speech
    covers      seconds of the recording that it accounts for, the silence before it included: those of all windows
                follow each other without a gap, from the first sample to the last
    spans       of speech, (start, end) in seconds of the recording
    """

    start: float
    end: float
    speech: float
    samples: np.ndarray
    covers: tuple[float, float]
    spans: tuple[tuple[float, float], ...]

    @staticmethod
    def of(start: float, samples: np.ndarray, rate: int, spans: Sequence[tuple[float, float]]) -> "Window":
        """A window that accounts for itself alone; of `spans`, what lies in it."""
        end = start + len(samples) / rate
        inside = [(max(first, start), min(last, end)) for first, last in spans if first < end and last > start]
        speech = sum(last - first for first, last in inside)
        return Window(start, end, speech, samples, (start, end), tuple(inside))

    def part(self, first: int, last: int | None, rate: int) -> "Window":
        """Its samples from `first` to `last`, exclusive, or to the end, as a window of its own."""
        return Window.of(self.start + first / rate, self.samples[first:last], rate, self.spans)
