"""Whisper's log-mel spectrogram in NumPy: the power of each frame in bands that are narrow where an ear is sharp.

Computed in float64 and rounded once: transformers' extractor works in float32 where torch is installed, and is off by
as much as 5e-5 from the same sums in quiet bins, differently for each build of torch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

_HIGHEST = 8000.0  # Hz
_LEAST = 1e-10  # power
_DECADES = 8.0  # kept below the loudest bin
# Slaney's mel scale: 3 mels each 200 Hz up to 1 kHz, then 27 mels each factor of 6.4.
_BEND, _STEP = 1000.0, np.log(6.4) / 27.0


@dataclass(frozen=True)
class LogMel:
    """Of audio at `rate`: a spectrum of `n_fft` samples every `hop` samples, in `bins` bands."""

    bins: int
    n_fft: int = 400
    hop: int = 160
    rate: int = 16_000

    def __call__(self, samples: npt.NDArray[np.float32], window: int) -> npt.NDArray[np.float32]:
        """(samples,) -> (bins, window / hop) float32 of the samples with silence up to `window` samples behind them.

        What is beyond the window is cut off.
        """
        half, frames = self.n_fft // 2, window // self.hop
        padded = np.zeros(window)
        padded[: len(samples)] = samples[:window]
        padded = np.pad(padded, half, mode="reflect")
        heard = min(frames, -(-(len(samples) + half) // self.hop))  # behind them no frame holds a sample
        if len(samples) >= window - half:
            heard = frames
        cut = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop][:heard]
        spectrum = np.fft.rfft(cut * self._hann)
        power = (spectrum.real**2 + spectrum.imag**2) @ self.filters
        told = np.full((frames, self.bins), np.log10(_LEAST))
        told[:heard] = np.log10(np.maximum(power, _LEAST))
        return ((np.maximum(told, told.max() - _DECADES) + 4) / 4).T.astype(np.float32, order="C")

    @cached_property
    def filters(self) -> npt.NDArray[np.float64]:
        """(n_fft / 2 + 1, bins): triangles over the frequencies, of area 1 each as Slaney has them."""
        highest = 3 * _BEND / 200 + np.log(_HIGHEST / _BEND) / _STEP
        edges = _hertz(np.linspace(0, highest, self.bins + 2))
        frequencies = np.linspace(0, self.rate // 2, self.n_fft // 2 + 1)[:, None]
        rising = (frequencies - edges[:-2]) / np.diff(edges)[:-1]
        falling = (edges[2:] - frequencies) / np.diff(edges)[1:]
        return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))

    @cached_property
    def _hann(self) -> npt.NDArray[np.float64]:
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)


def _hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    bend = 3 * _BEND / 200
    return np.where(mels < bend, 200 * mels / 3, _BEND * np.exp(_STEP * (mels - bend)))
