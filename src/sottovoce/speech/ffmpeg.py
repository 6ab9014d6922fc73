"""Decoding with FFmpeg's libraries, which PyAV brings along: m4a, mp4, webm, aac, wma, amr, the sound of a film.

What is decoded is what plays: the samples with which an encoder fills its first frame are left out where the file says
how many (MP4's edit list, Opus' pre-skip), and MP4's last frame is cut where its track ends. A raw .aac says neither.
"""

import warnings
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
_LATE = 0.5  # seconds by which the last packet may end early: a film of two pictures a second


def decode(path: Path, why: str) -> Decoded:
    """All samples of a file's audio, of the track that the container prefers if it has several.

    why  libsndfile does not decode it

    Raises AudioError, also where PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise AudioError(_without(path, why)) from None
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}, metadata_errors="ignore") as container:
            if container.format.name in _LISTS:
                raise AudioError(f"{path} is a list of other files; give the audio itself")
            return _decode(path, container)
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


def _decode(path: Path, container: Any) -> Decoded:
    import av

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
    # Only the type of a sample changes. Interleaved: PyAV 18.1 reads beyond the end of eight channels side by side.
    resampler = av.AudioResampler(format="flt")
    parts, last, rate, end = [], 0, 0, 0.0
    for packet in container.demux():
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        for frame in packet.decode() if packet.stream is track else ():
            try:
                parts += [_channels(part) for part in resampler.resample(frame)]
            except ValueError as error:
                raise AudioError(
                    f"{path} changes its sampling rate or its channels on the way; convert it to WAV or FLAC"
                ) from error
            last, rate = frame.samples, frame.sample_rate  # the track's own lacks what SBR doubles
    promised = container.duration / av.time_base if container.duration else 0.0
    if container.format.name.startswith(_TIMED) and end < promised - _LATE:
        raise AudioError(
            f"{path} is cut short: its header promises {promised:.2f} s and {end:.2f} s are there; "
            "copy or download it again"
        )
    if not parts:
        raise AudioError(f"{path} holds 0 samples; record it again or leave it out")
    channels = np.concatenate(parts)
    played = len(channels)
    if container.format.name.startswith("mov") and track.duration:  # less than a frame of padding ends MP4's last one
        told = round(float(track.duration * track.time_base) * rate)
        played = told if played - last < told < played else played
    return Decoded(channels[:played], rate)


def _channels(frame: Any) -> npt.NDArray[np.float32]:
    """(samples, channels) float32 of a frame of interleaved floats."""
    samples: npt.NDArray[np.float32] = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    return samples
