"""What the header of an audio file says before anything is decoded: its channels and, as far as known, its length."""

from dataclasses import dataclass
from pathlib import Path

import soundfile

from sottovoce.speech.decoded import AudioError

_UNKNOWN = 1 << 62  # frames, above which a header says none


@dataclass(frozen=True)
class Header:
    """seconds is None where the header does not say, and may be wrong in a damaged file."""

    seconds: float | None
    channels: int


def read_header(path: Path) -> Header:
    """By libsndfile, else by FFmpeg's libraries. Raises AudioError for what neither knows."""
    try:
        found = soundfile.info(str(path))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless, its rate unknown
        return _by_ffmpeg(path)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}") from error
    return Header(found.frames / found.samplerate if found.frames < _UNKNOWN else None, found.channels)


def _by_ffmpeg(path: Path) -> Header:
    refused = AudioError(
        f"{path} is not audio that can be read here, or its header is damaged; convert it to WAV or FLAC"
    )
    try:
        import av
    except ImportError:
        raise refused from None
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}, metadata_errors="ignore") as container:
            track = container.streams.best("audio")
            if not isinstance(track, av.AudioStream):
                raise refused
            told = container.duration / av.time_base if container.duration else None
            return Header(told, track.codec_context.layout.nb_channels)
    except (av.FFmpegError, OSError):
        raise refused from None
