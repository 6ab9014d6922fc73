"""Audio files as the models take them: one channel, float32, one sampling rate."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sottovoce.files.atomic import sha256
from sottovoce.speech import ffmpeg, libsndfile
from sottovoce.speech.decoded import NotForLibsndfileError
from sottovoce.speech.stream import SAMPLING_RATE, blocks, decoded, readable

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    *(".sph", ".w64", ".rf64", *ffmpeg.SUFFIXES),
)


def read(path: str | Path, sampling_rate: int = SAMPLING_RATE) -> npt.NDArray[np.float32]:
    """The samples of one audio file: the mean of its channels at `sampling_rate`.

    returns  (samples,) float32, full scale is 1

    Resampled with soxr (HQ). Raises AudioError, a ValueError that names the file, for one that is missing, empty, not
    audio, cut short, that holds no samples or a NaN or infinite one, or whose channels cancel each other in the mean.
    """
    return np.concatenate(list(blocks(path, sampling_rate)))


def seconds(path: str | Path) -> float:
    """How long the file plays: by its header where that says it to the sample, else by decoding it.

    Raises AudioError for what can be found on the way: missing, empty, not audio, no samples, cut short.
    """
    path = Path(path)
    with readable(path):
        try:
            known = libsndfile.seconds(path)
        except NotForLibsndfileError:
            known = None
    if known is not None:
        return known
    frames, rate = 0, 1
    for block in decoded(path):
        frames, rate = frames + len(block.channels), block.rate
    return frames / rate


def fingerprint(path: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of the file's bytes."""
    return sha256(Path(path))[:16]
