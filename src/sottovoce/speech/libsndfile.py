"""Decoding with libsndfile: WAV, FLAC, Ogg, MP3, AIFF, AU, CAF, SPHERE and older ones.

Files are read forwards only, since some codings (GSM 6.10, ADPCM of G.721 and G.723, DWVW) cannot be sought in. What
libsndfile would cut off, drop or make up in silence is looked for first.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from sottovoce.speech import mpeg, ogg, promises
from sottovoce.speech.decoded import AudioError, Decoded, NotForLibsndfileError

_BLOCK = 1 << 16  # frames
_UNKNOWN = 1 << 62  # frames, above which a header says none (a FLAC from a pipe)


class _Forwards(soundfile.SoundFile):  # type: ignore[misc]
    """Read from start to end without a seek: soundfile seeks after each read where it believes that it can."""

    def seekable(self) -> bool:
        return False


def decode(path: Path) -> Decoded:
    """All samples of a file. Raises AudioError, and NotForLibsndfileError for what it cannot decode whole."""
    with _opened(path) as (file, frames):
        blocks = []
        try:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):  # (frames, channels)
                blocks.append(block)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path} is damaged or cut short; copy or download it again") from error
        channels: npt.NDArray[np.float32] = np.concatenate(blocks) if blocks else np.zeros((0, file.channels), "f4")
        rate = int(file.samplerate)
    if frames is not None and len(channels) < frames:
        raise AudioError(
            f"{path} is cut short: its header promises {frames} samples and {len(channels)} are there; "
            f"copy or download it again"
        )
    if not len(channels):
        raise AudioError(f"{path} holds 0 samples; record it again or leave it out")
    return Decoded(channels[:frames], rate)


def seconds(path: Path) -> float | None:
    """How long a file plays by its headers, None if they do not say. Raises as `decode` does."""
    with _opened(path) as (file, frames):
        return None if frames is None else float(frames / file.samplerate)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[_Forwards, int | None]]:
    """A file at its first sample, and its frames where they are known."""
    file = _open(path, promises.whole(path))
    try:
        frames: int | None = file.frames if file.frames < _UNKNOWN else None
        if file.format == "RAW":  # guessed from the name: any .au, .snd, .gsm or .vox would do
            raise NotForLibsndfileError("it has no header")
        if file.format == "OGG" and (why := ogg.left_out(path.read_bytes())):
            raise NotForLibsndfileError(why)
        if file.format == "MP3" and (stream := mpeg.read_stream(path.read_bytes())):
            there, promised = len(stream.frames), stream.promised
            if promised is not None and there < promised:
                raise AudioError(
                    f"{path} is cut short: its header promises {promised} MP3 frames and {there} are there; "
                    f"copy or download it again"
                )
            if promised is None or there > promised:
                file.close()
                file, frames = _open(path, stream.without_header()), stream.samples
        if frames == 0:
            raise AudioError(f"{path} holds 0 samples; record it again or leave it out")
        yield file, frames
    finally:
        file.close()


def _open(path: Path, source: Path | io.BytesIO) -> _Forwards:
    try:
        return _Forwards(source)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless .raw, rate unknown
        raise NotForLibsndfileError("libsndfile does not know its format, or its header is damaged") from error
