"""A window of a recording, as it is transcribed at once; what it accounts for of the recording around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """A contiguous piece of a recording that begins and ends with speech.

    start, end  seconds of the recording; as far apart as `samples` are long
    speech      seconds of it that are speech
    samples     (n,) float32 at the model's rate; none where a stretch of the recording holds no speech
    covers      the seconds of the recording that it accounts for: each window's begin where the one's before it end
    spans       where in the recording speech was found in it, (start, end) in seconds
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
