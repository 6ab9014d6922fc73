"""Audio files as the models take them: one channel, float32, one sampling rate.

libsndfile decodes what it can (WAV, FLAC, Ogg, MP3, ...), PyAV the rest where it is installed (m4a, mp4, webm, ...).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from sottovoce.files.atomic import sha256
from sottovoce.speech import ffmpeg, libsndfile
from sottovoce.speech.decoded import AudioError, Decoded, NotForLibsndfileError

SAMPLING_RATE = 16_000
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    *(".sph", ".w64", ".rf64", *ffmpeg.SUFFIXES),
)

# In the mean, channels of different sound leave 1/channels of their power, like ones all of it. Less than a tenth of
# 1/channels is left only where channels mirror each other (two: a correlation below -0.9), and cancel what they share.
CANCELLED = 0.1


def read(path: str | Path, sampling_rate: int = SAMPLING_RATE) -> npt.NDArray[np.float32]:
    """The samples of one audio file: the mean of its channels at `sampling_rate`.

    returns  (samples,) float32, full scale is 1

    Resampled with soxr (HQ). Raises AudioError, a ValueError that names the file, for one that is missing, empty, not
    audio, cut short, that holds no samples or a NaN or infinite one, or whose channels cancel each other in the mean.
    """
    path = Path(path)
    if sampling_rate < 1:
        raise ValueError(f"sampling rate {sampling_rate} Hz asked for {path}; 16000 is what the models take")
    decoded = _decode(path)
    samples = _mean(path, decoded)
    if decoded.rate != sampling_rate:
        samples = soxr.resample(samples, decoded.rate, sampling_rate, quality="HQ").astype(np.float32, copy=False)
    if not samples.size:
        raise AudioError(f"{path} is shorter than one sample at {sampling_rate} Hz; leave it out")
    return samples


def seconds(path: str | Path) -> float:
    """How long the file plays: by its header where that says it to the sample, else by decoding it.

    Raises AudioError for what can be found on the way: missing, empty, not audio, no samples, cut short.
    """
    path = Path(path)
    with _readable(path):
        try:
            known = libsndfile.seconds(path)
        except NotForLibsndfileError:
            known = None
    if known is not None:
        return known
    decoded = _decode(path)
    return float(len(decoded.channels) / decoded.rate)


def fingerprint(path: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of the file's bytes."""
    return sha256(Path(path))[:16]


def _decode(path: Path) -> Decoded:
    with _readable(path):
        try:
            return libsndfile.decode(path)
        except NotForLibsndfileError as why:
            return ffmpeg.decode(path, str(why))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Refuse what is no file of audio whatever decodes it; within, an OSError is an AudioError."""
    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder; give one audio file, or read it as a corpus")
        if not path.is_file():
            raise AudioError(f"there is no audio file {path}; give the path of a WAV, FLAC, OGG or MP3 file")
        if not path.stat().st_size:
            raise AudioError(f"{path} is empty (0 bytes); copy or record it again")
        with path.open("rb") as file:
            head = file.read(1024)
        if head.startswith(b"NIST_1A") and b"shorten" in head:
            raise AudioError(f"{path} is SPHERE compressed with shorten; convert it first: sph2pipe -f wav IN OUT")
        yield
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}") from error


def _mean(path: Path, decoded: Decoded) -> npt.NDArray[np.float32]:
    """(samples,) float32: the mean of the channels, which are held to be finite and not to cancel each other."""
    channels = decoded.channels
    samples: npt.NDArray[np.float32] = channels.mean(axis=1, dtype=np.float32)
    finite = np.isfinite(samples)
    if not finite.all():
        where = int(finite.argmin()) / decoded.rate
        raise AudioError(f"{path} has a NaN or infinite sample at {where:.3f} seconds; write it again as 16-bit PCM")
    count = channels.shape[1]
    if count > 1:
        left, held = float(samples.var(dtype=float)), float(channels.var(axis=0, dtype=float).mean())
        if left < CANCELLED * held / count:
            lost = f"{10 * math.log10(held / left):.0f} dB of their power is" if left > 0 else "all of their power is"
            raise AudioError(
                f"{path}: its {count} channels cancel each other: {lost} lost in their mean, as one of them has the "
                "opposite polarity; write one channel to a file of its own"
            )
    return samples
