"""An audio file as a stream: a second at a time, one channel, one sampling rate, in memory that does not grow with it.

libsndfile decodes what it can (WAV, FLAC, Ogg, MP3, ...), PyAV the rest where it is installed (m4a, mp4, webm, ...).
"""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from sottovoce.speech import ffmpeg, libsndfile
from sottovoce.speech.decoded import AudioError, Decoded, NotForLibsndfileError, joined
from sottovoce.speech.mono import Mono

SAMPLING_RATE = 16_000
Samples = npt.NDArray[np.float32]


def blocks(
    path: str | Path, rate: int = SAMPLING_RATE, channel: int | None = None, start: float = 0.0
) -> Iterator[Samples]:
    """The samples of a file in order, in blocks of about a second: (samples,) float32, full scale is 1.

    rate     Hz; resampled with soxr (HQ)
    channel  the one that is read, from 0; None for the mean of all
    start    seconds that are left out at the beginning; they are decoded too, as not every coding can be sought in

    Raises AudioError, a ValueError that names the file: before the first block for one that is missing, empty, not
    audio or holds no samples, on the way for a sample that is NaN or infinite, and after the last block, so that none
    is lost, for a file that is damaged or cut short, or whose channels cancel each other in the mean of the whole.
    Raises ValueError for a rate, a channel or a start that cannot be.
    """
    path = Path(path)
    if rate < 1:
        raise ValueError(f"sampling rate {rate} Hz asked for {path}; 16000 is what the models take")
    if start < 0:
        raise ValueError(f"{path} cannot be read from {start} seconds on; 0 is its beginning")
    left_out, given = round(start * rate), 0
    for block in _resampled(path, rate, channel):
        begin, given = min(max(left_out - given, 0), len(block)), given + len(block)
        if begin < len(block):
            yield block[begin:]
    if not given:
        raise AudioError(f"{path} is shorter than one sample at {rate} Hz; leave it out")
    if given < left_out:
        raise ValueError(f"{path} cannot be read from {start} seconds on; it has {given / rate:.3f}")


def channels(path: str | Path) -> int:
    """How many channels a file has. Raises AudioError as `blocks` does before the first."""
    with closing(decoded(Path(path))) as found:
        return int(next(found).channels.shape[1])


def decoded(path: Path) -> Generator[Decoded, None, None]:
    """All channels of a file at its own rate, in blocks of about a second. Raises AudioError as `blocks` does."""
    parts: list[Decoded] = []
    try:
        for part in _parts(path):
            parts.append(part)
            if sum(len(part.channels) for part in parts) >= part.rate:
                yield joined(parts)
                parts = []
    except AudioError:
        if parts:
            yield joined(parts)
        raise
    if parts:
        yield joined(parts)


def _resampled(path: Path, rate: int, channel: int | None) -> Iterator[Samples]:
    """One channel at `rate`; what is left in the filter comes before an error too."""
    mono, filtering = Mono(path, channel), None
    try:
        for block in decoded(path):
            samples = mono.of(block)
            if block.rate != rate:
                filtering = filtering or soxr.ResampleStream(block.rate, rate, 1, dtype="float32", quality="HQ")
                samples = filtering.resample_chunk(samples)
            yield samples
    except AudioError:
        if filtering is not None:
            yield _rest(filtering)
        raise
    if filtering is not None:
        yield _rest(filtering)
    mono.check()


def _rest(filtering: soxr.ResampleStream) -> Samples:
    rest: Samples = filtering.resample_chunk(np.zeros(0, np.float32), last=True)
    return rest


def _parts(path: Path) -> Iterator[Decoded]:
    with readable(path):
        try:
            yield from libsndfile.blocks(path)
        except NotForLibsndfileError as error:
            why = str(error)
        else:
            return
        yield from ffmpeg.blocks(path, why)


@contextmanager
def readable(path: Path) -> Iterator[None]:
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
