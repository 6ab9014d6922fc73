"""One channel of many, block by block: their mean, or one of them, held to be finite and not to cancel."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sottovoce.speech.decoded import AudioError, Decoded

# In the mean, channels of different sound leave 1/channels of their power, like ones all of it. Less than a tenth of
# 1/channels is left only where channels mirror each other (two: a correlation below -0.9), and cancel what they share.
CANCELLED = 0.1
LOUDEST = 1e8  # times full scale; integers that were written as floats of 24 bits reach 8,388,608


@dataclass
class Spread:
    """Numbers, their mean and the sum of their squared distances from it, in several rows: of all blocks so far.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
    """

    count: int = 0
    mean: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    squares: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def add(self, block: npt.NDArray[np.float32]) -> None:
        """One more block, (numbers, rows)."""
        count = len(block)
        mean = block.mean(axis=0, dtype=float)
        apart, total = mean - self.mean, self.count + count
        self.squares = self.squares + block.var(axis=0, dtype=float) * count + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def variance(self) -> float:
        """The mean of the rows' variances."""
        return float(self.squares.mean() / self.count)


class Mono:
    """Makes one channel of the blocks of a file.

    channel  which, from 0; None for the mean of all
    """

    def __init__(self, path: Path, channel: int | None = None) -> None:
        self._path, self._channel = path, channel
        self._frames = 0
        self._channels = 1
        self._left, self._held = Spread(), Spread()

    def of(self, block: Decoded) -> npt.NDArray[np.float32]:
        """(samples,) float32 of the next block. Raises AudioError for a NaN or an infinite sample.

        Raises ValueError for a channel that the file does not have.
        """
        channels = block.channels
        self._channels = channels.shape[1]
        if self._channel is not None and not 0 <= self._channel < self._channels:
            there = "1 channel, 0" if self._channels == 1 else f"{self._channels} channels, 0 to {self._channels - 1}"
            raise ValueError(f"channel {self._channel} asked for {self._path}, which has {there}")
        samples: npt.NDArray[np.float32]
        samples = channels.mean(axis=1, dtype=np.float32) if self._channel is None else channels[:, self._channel]
        finite = np.isfinite(samples)
        if not finite.all():
            where = (self._frames + int(finite.argmin())) / block.rate
            raise AudioError(
                f"{self._path} has a NaN or infinite sample at {where:.3f} seconds; write it again as 16-bit PCM"
            )
        if len(samples) and float(np.abs(samples).max()) > LOUDEST:
            where = (self._frames + int(np.abs(samples).argmax())) / block.rate
            raise AudioError(
                f"{self._path} has a sample at {where:.3f} seconds that is more than {LOUDEST:g} times full scale; "
                "write it again as 16-bit PCM"
            )
        self._frames += len(samples)
        if self._channel is None and self._channels > 1:
            self._left.add(samples[:, None])
            self._held.add(channels)
        return samples

    def check(self) -> None:
        """After the last block: raise AudioError if the channels cancel each other in the mean of the whole file."""
        if not self._held.count:
            return
        left, held = self._left.variance, self._held.variance
        if left < CANCELLED * held / self._channels:
            lost = f"{10 * math.log10(held / left):.0f} dB of their power is" if left > 0 else "all of their power is"
            raise AudioError(
                f"{self._path}: its {self._channels} channels cancel each other: {lost} lost in their mean, as one of "
                "them has the opposite polarity; write one channel to a file of its own"
            )
