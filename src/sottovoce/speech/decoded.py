"""What decoding gives: the samples of every channel at the file's own rate, or a sentence that says why not."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Decoded:
    """Some of a file's samples, or all: channels is (frames, channels) float32, full scale is 1; rate is in Hz."""

    channels: npt.NDArray[np.float32]
    rate: int


def joined(blocks: Iterable[Decoded]) -> Decoded:
    """The blocks of one file, of which there is one at least, as one."""
    parts = list(blocks)
    return Decoded(np.concatenate([part.channels for part in parts]), parts[0].rate)


class AudioError(ValueError):
    """An audio file that cannot be used as it is; the message is one sentence that begins with its path."""


class NotForLibsndfileError(Exception):
    """A file that libsndfile cannot decode, or not whole; the message says why. FFmpeg may be able to."""
