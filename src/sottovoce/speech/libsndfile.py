"""Decoding with libsndfile: WAV, FLAC, Ogg, MP3, AIFF, AU, CAF, SPHERE and older ones.

Files are read forwards only, since some codings (GSM 6.10, ADPCM of G.721 and G.723, DWVW) cannot be sought in. What
libsndfile would cut off, drop or make up in silence is looked for first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from sottovoce.speech import mpeg, ogg, promises
from sottovoce.speech.decoded import AudioError, Decoded, NotForLibsndfileError
from sottovoce.speech.file_bytes import FileBytes
from sottovoce.speech.spliced import Spliced

_BLOCK = 1 << 16  # frames, at most; else a second
UNKNOWN = 1 << 62  # frames, above which a header says none (a FLAC from a pipe)


class _Forwards(soundfile.SoundFile):  # type: ignore[misc]
    """Read from start to end without a seek: soundfile seeks after each read where it believes that it can."""

    def seekable(self) -> bool:
        return False


class _Opened(NamedTuple):
    """A file at its first sample, its frames where they are known, and the sentence that says what it lacks."""

    file: _Forwards
    frames: int | None
    missing: str | None


def blocks(path: Path) -> Iterator[Decoded]:
    """All samples of a file, about a second at a time; memory does not grow with the file.

    Raises NotForLibsndfileError before the first for what it cannot decode whole, and AudioError: where a file is
    damaged or cut short, after all that could be decoded.
    """
    with _opened(path) as (file, frames, missing):
        there = 0
        while frames is None or there < frames:
            block, error = _read(file)
            block = block if frames is None else block[: frames - there]
            there += len(block)
            if len(block):
                yield Decoded(block, int(file.samplerate))
            if error is not None:
                raise AudioError(f"{path} is damaged or cut short; copy or download it again") from error
            if not len(block):
                break
        if missing is None and frames is not None and there < frames:
            missing = (
                f"{path} is cut short: its header promises {frames} samples and {there} are there; "
                f"copy or download it again"
            )
    if missing is not None:
        raise AudioError(missing)
    if not there:
        raise AudioError(f"{path} holds 0 samples; record it again or leave it out")


def seconds(path: Path) -> float | None:
    """How long a file plays by its headers, None if they do not say. Raises as `blocks` does."""
    with _opened(path) as (file, frames, missing):
        if missing is not None:
            raise AudioError(missing)
        return None if frames is None else float(frames / file.samplerate)


def _read(file: _Forwards) -> tuple[npt.NDArray[np.float32], soundfile.LibsndfileError | None]:
    """The next (frames, channels), and the error that stopped them: what was decoded before it is in the buffer."""
    buffer: npt.NDArray[np.float32] = np.full((min(file.samplerate, _BLOCK), file.channels), np.nan, np.float32)
    try:
        return file.read(out=buffer), None
    except soundfile.LibsndfileError as error:
        return buffer[: int((~np.isnan(buffer).all(axis=1)).sum())], error


@contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    kept = promises.kept(path)
    with FileBytes(path) as data:
        try:
            file = _open(path if kept.open_size is None else promises.with_size(data, kept.open_size))
        except NotForLibsndfileError:
            if kept.missing is not None:
                raise AudioError(kept.missing) from None
            raise
        try:
            opened = _Opened(file, file.frames if file.frames < UNKNOWN else None, kept.missing)
            if file.format == "RAW":  # guessed from the name: any .au, .snd, .gsm or .vox would do
                raise NotForLibsndfileError("it has no header")
            if file.format == "OGG" and (why := ogg.left_out(data)):
                raise NotForLibsndfileError(why)
            if file.format == "OGG" and ogg.cut_short(data):
                opened = opened._replace(
                    missing=f"{path} is cut short: its last Ogg page is not the end of its stream; "
                    "copy or download it again"
                )
            if file.format == "MP3" and (stream := mpeg.read_stream(data)):
                opened = _counted(path, opened, stream)
            if opened.frames == 0:
                raise AudioError(opened.missing or f"{path} holds 0 samples; record it again or leave it out")
            yield opened
        finally:
            file.close()
            opened.file.close()


def _counted(path: Path, opened: _Opened, stream: mpeg.Stream) -> _Opened:
    """An MP3 by its frames, where its header does not promise as many as are there."""
    there, promised = stream.n_frames, stream.promised
    if promised is not None and there < promised:
        return opened._replace(
            missing=f"{path} is cut short: its header promises {promised} MP3 frames and {there} are there; "
            f"copy or download it again"
        )
    if promised is None or there > promised:
        return _Opened(_open(stream.without_header()), stream.samples, None)
    return opened


def _open(source: Path | Spliced) -> _Forwards:
    try:
        return _Forwards(source)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless .raw, rate unknown
        raise NotForLibsndfileError("libsndfile does not know its format, or its header is damaged") from error
