"""How long an audio file says it is, before anything is decoded: for an estimate of the time that is left, no more."""

from pathlib import Path

import soundfile

from sottovoce.speech.libsndfile import UNKNOWN


def told_seconds(path: Path) -> float | None:
    """By libsndfile's reading of its header, else by FFmpeg's; None where neither knows, or PyAV is not installed."""
    try:
        found = soundfile.info(str(path))
    except (soundfile.LibsndfileError, TypeError, OSError):  # TypeError: headerless, its rate unknown
        return _by_ffmpeg(path)
    return float(found.frames / found.samplerate) if found.frames < UNKNOWN else None


def _by_ffmpeg(path: Path) -> float | None:
    try:
        import av
    except ImportError:
        return None
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}, metadata_errors="ignore") as container:
            return container.duration / av.time_base if container.duration else None
    except (av.FFmpegError, OSError):
        return None
