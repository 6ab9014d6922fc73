"""Temporary."""

from collections.abc import Iterable, Iterator

import numpy as np

from sottovoce.recognition.window import Window


def windows(
    blocks: Iterable[np.ndarray], rate: int, *, most_seconds: float, least_samples: int, vad: bool, start: float
) -> Iterator[Window]:
    x = np.concatenate(list(blocks))
    at = 0
    most = round(most_seconds * rate)
    while at < len(x):
        end = min(len(x), at + most)
        if end < len(x):
            lo = at + most * 4 // 5
            e = np.convolve(np.square(x[lo:end]), np.ones(3200), "same")
            end = lo + int(e.argmin())
        s, t = start + at / rate, start + end / rate
        yield Window.of(s, x[at:end], rate, [(s, t)])
        at = end
