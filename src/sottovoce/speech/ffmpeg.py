"""Decoding with FFmpeg's libraries, which PyAV brings along: m4a, mp4, webm, aac, wma, amr, the sound of a film.

What is decoded is what plays: the samples with which an encoder fills its first frame are left out where the file says
how many (MP4's edit list, Opus' pre-skip), and MP4's last frame is cut where its track ends. A raw .aac says neither.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.speech.decoded import AudioError, Decoded

SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv"),
    *(".wma", ".wmv", ".asf", ".amr", ".gsm", ".ac3", ".avi", ".ape", ".wv", ".tta", ".spx"),
)
_LISTS = ("concat", "dash", "hls", "imf", "rtsp", "sdp")  # formats that only name other files
_TIMED = ("mov", "matroska")  # containers whose header says how long they last
_A_SECOND = 1_000_000  # FFmpeg's unit of a container's duration
_LATE = 0.5  # seconds by which the last packet may end early: a film of two pictures a second


@dataclass
class _Reached:
    """Where the last packet ends, in seconds."""

    end: float = 0.0


def blocks(path: Path, why: str) -> Iterator[Decoded]:
    """All samples of a file's audio, of the track that the container prefers if it has several, a frame at a time.

    why  libsndfile does not decode it

    Raises AudioError, also where PyAV is not installed; where a file is damaged or cut short, after all that could be
    decoded.
    """
    try:
        import av
    except ImportError:
        raise AudioError(_without(path, why)) from None
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}, metadata_errors="ignore") as container:
            if container.format.name in _LISTS:
                raise AudioError(f"{path} is a list of other files; give the audio itself")
            yield from _blocks(path, container)
    except av.FFmpegError as error:
        raise AudioError(
            f"{path} is not audio that libsndfile or FFmpeg knows, or it is damaged or cut short; "
            "copy it again, or convert it to WAV or FLAC"
        ) from error


def _without(path: Path, why: str) -> str:
    """What to do where PyAV is not installed."""
    if path.suffix.lower() in SUFFIXES or _is_media(path):
        return f'{path} needs PyAV, since {why}: pip install "sottovoce[av]", or convert it to WAV or FLAC'
    return f"{path} is not audio that libsndfile knows, or its header is damaged; convert it to WAV or FLAC"


def _is_media(path: Path) -> bool:
    """Whether its first bytes are of a container that FFmpeg knows: MP4, Matroska, ASF, AMR, Ogg, CAF, AVI."""
    with path.open("rb") as file:
        head = file.read(12)
    starts = (b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75", b"#!AMR", b"OggS", b"caff")
    return head.startswith(starts) or head[4:8] == b"ftyp" or (head[:4], head[8:]) == (b"RIFF", b"AVI ")


def _blocks(path: Path, container: Any) -> Iterator[Decoded]:
    track, reached = _track(path, container), _Reached()
    held: Decoded | None = None  # the last frame, of which padding may be left out
    there = 0
    try:
        for block in _frames(path, container, track, reached):
            there += len(block.channels)
            if held is not None:
                yield held
            held = block
    except Exception:
        if held is not None:
            yield held
        raise
    if held is not None:
        yield replace(held, channels=held.channels[: len(held.channels) - _padding(container, track, held, there)])
    promised = container.duration / _A_SECOND if container.duration else 0.0
    if container.format.name.startswith(_TIMED) and reached.end < promised - _LATE:
        raise AudioError(
            f"{path} is cut short: its header promises {promised:.2f} s and {reached.end:.2f} s are there; "
            "copy or download it again"
        )
    if held is None:
        raise AudioError(f"{path} holds 0 samples; record it again or leave it out")


def _track(path: Path, container: Any) -> Any:
    """The track of audio that is read."""
    tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not tracks:
        raise AudioError(
            f"{path} is not audio that libsndfile or FFmpeg knows: it has no audio track; leave it out, or convert it "
            "to WAV or FLAC"
        )
    best = container.streams.best("audio")
    track = best if best in tracks else tracks[0]
    if len(tracks) > 1:
        warnings.warn(f"{path} has {len(tracks)} audio tracks; track {tracks.index(track) + 1} is read", stacklevel=2)
    return track


def _frames(path: Path, container: Any, track: Any, reached: _Reached) -> Iterator[Decoded]:
    """The samples of each frame of a track, all of them; `reached` is told where the packets of all tracks end."""
    import av

    # Only the type of a sample changes. Interleaved: PyAV 18.1 reads beyond the end of eight channels side by side.
    resampler = av.AudioResampler(format="flt")
    for packet in container.demux():
        if packet.pts is not None:
            reached.end = max(reached.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        for frame in packet.decode() if packet.stream is track else ():
            try:
                parts = [_channels(part) for part in resampler.resample(frame)]
            except ValueError as error:
                raise AudioError(
                    f"{path} changes its sampling rate or its channels on the way; convert it to WAV or FLAC"
                ) from error
            if parts:
                yield Decoded(np.concatenate(parts), frame.sample_rate)  # the track's own lacks what SBR doubles


def _padding(container: Any, track: Any, last: Decoded, there: int) -> int:
    """The samples that fill MP4's last frame behind the end of its track: less than the frame has."""
    if not container.format.name.startswith("mov") or not track.duration:
        return 0
    over = there - round(float(track.duration * track.time_base) * last.rate)
    return over if 0 < over < len(last.channels) else 0


def _channels(frame: Any) -> npt.NDArray[np.float32]:
    """(samples, channels) float32 of a frame of interleaved floats."""
    samples: npt.NDArray[np.float32] = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    return samples
