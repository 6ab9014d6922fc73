"""Audio files as the models hear them: one channel, float32, one sampling rate.

Whatever libsndfile decodes is taken (WAV, FLAC, OGG, MP3, ...). What it would pass over in silence,
a WAV that ends before its header says, is looked for here.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from sottovoce.files import sha256

SAMPLING_RATE = 16_000

# A writer that cannot seek back leaves the size of its data open: 0xFFFFFFFF (ffmpeg), 0x7FFFF000 (sox),
# 0x80000000 (arecord), or 0.
OPEN_SIZE = 0x7FFF_F000


def read(path: str | Path, sampling_rate: int = SAMPLING_RATE) -> npt.NDArray[np.float32]:
    """The samples of one audio file: the mean of its channels at `sampling_rate`.

    returns  (samples,) float32, full scale is 1

    Resampled with soxr (HQ). Raises ValueError for a file that is missing, empty, not audio, cut short,
    or that holds no samples or a NaN or infinite one.
    """
    path = Path(path)
    if sampling_rate < 1:
        raise ValueError(f"sampling rate {sampling_rate} Hz asked for {path}; 16000 is what the models hear")
    with _open(path) as file:
        rate, promised = file.samplerate, file.frames
        try:
            channels = file.read(dtype="float32", always_2d=True)  # (frames, channels)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{path} is damaged or cut short; copy or download it again") from error
    if len(channels) < promised:
        raise ValueError(
            f"{path} is cut short: its header promises {promised} samples and {len(channels)} are there; "
            f"copy or download it again"
        )
    samples: npt.NDArray[np.float32] = channels.mean(axis=1, dtype=np.float32)
    finite = np.isfinite(samples)
    if not finite.all():
        where = int(finite.argmin()) / rate
        raise ValueError(f"{path} has a NaN or infinite sample at {where:.3f} seconds; write it again as 16-bit PCM")
    if rate != sampling_rate:
        samples = soxr.resample(samples, rate, sampling_rate, quality="HQ").astype(np.float32, copy=False)
    if not samples.size:
        raise ValueError(f"{path} is shorter than one sample at {sampling_rate} Hz; leave it out")
    return samples


def seconds(path: str | Path) -> float:
    """How long the file plays, from its header alone.

    Raises ValueError for what a header can tell: missing, empty, not audio, no samples, a WAV cut short.
    """
    with _open(Path(path)) as file:
        return float(file.frames / file.samplerate)


def fingerprint(path: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of the file's bytes."""
    return sha256(Path(path))[:16]


def _open(path: Path) -> Any:
    """An open soundfile.SoundFile with at least one frame, or a ValueError that says why not."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give one audio file, or read it as a corpus")
    if not path.is_file():
        raise ValueError(f"there is no audio file {path}; give the path of a WAV, FLAC, OGG or MP3 file")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty (0 bytes); copy or record it again")
    try:
        file = soundfile.SoundFile(_whole_wav(path))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless .raw, rate unknown
        raise ValueError(
            f"{path} is not audio that libsndfile knows, or its header is damaged; convert it to WAV or FLAC"
        ) from error
    if not file.frames:
        file.close()
        raise ValueError(f"{path} holds 0 samples; record it again or leave it out")
    return file


def _whole_wav(path: Path) -> Path | io.BytesIO:
    """What to give to libsndfile: the path, or the file's bytes if a WAV's data size was left at 0.

    libsndfile takes a WAV that is cut short for a shorter one, and one with size 0 for an empty one.
    Raises ValueError if the `data` chunk promises more bytes than the file holds. Not a WAV: the path.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        riff = file.read(12)
        if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
            return path
        while len(head := file.read(8)) == 8 and head[:4] != b"data":
            length = int.from_bytes(head[4:], "little")
            file.seek(length + length % 2, io.SEEK_CUR)  # chunks are padded to even bytes
        if len(head) < 8:
            return path  # no data chunk: libsndfile says so
        start, promised = file.tell(), int.from_bytes(head[4:], "little")
        present = size - start
        if promised < OPEN_SIZE and promised > present:
            raise ValueError(
                f"{path} is cut short: its header promises {promised} bytes of samples and {present} are "
                f"there; copy or download it again"
            )
        if promised or not present or _is_chunk(file.read(8), present):
            return path
        file.seek(0)
        data = bytearray(file.read())
    data[start - 4 : start] = min(present, 0xFFFF_FFFF).to_bytes(4, "little")
    return io.BytesIO(data)


def _is_chunk(head: bytes, present: int) -> bool:
    """Whether these 8 bytes open another RIFF chunk (a printable name, a size that fits), not samples."""
    name, length = head[:4], int.from_bytes(head[4:], "little")
    return len(head) == 8 and all(32 <= byte < 127 for byte in name) and length <= present - 8
