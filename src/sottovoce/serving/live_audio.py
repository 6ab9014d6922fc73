"""What a live client has sent since its last commit: a WAV file on disk, so that it is read as an upload is."""

import base64
import binascii
import wave
from pathlib import Path

from sottovoce.serving.limits import Limits
from sottovoce.serving.refused import Refused

SAMPLE_BYTES = 2


class LiveAudio:
    """Samples at `rate` Hz, 16 bits, mono, within the limits of one request."""

    def __init__(self, path: Path, rate: int, limits: Limits) -> None:
        self._limits, self._rate = limits, rate
        self.bytes = 0
        self._file = wave.open(str(path), "wb")  # noqa: SIM115
        self._file.setnchannels(1)
        self._file.setsampwidth(SAMPLE_BYTES)
        self._file.setframerate(rate)

    def append(self, audio: str) -> None:
        """Add base64 of samples; all of it, or none and Refused."""
        try:
            samples = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise Refused("audio is not base64", code="invalid_audio") from None
        if len(samples) % SAMPLE_BYTES:
            raise Refused(
                f"audio has {len(samples)} bytes, and a sample has 2; whole samples would work", code="invalid_audio"
            )
        after = self.bytes + len(samples)
        seconds = after / SAMPLE_BYTES / self._rate
        if after > self._limits.most_bytes or seconds > self._limits.most_seconds:
            told = f"{self._limits.most_mb:g} MB and {self._limits.most_seconds:g} s"
            raise Refused(
                f"the audio is more than {told}, which is the most between two commits", code="audio_too_long"
            )
        self._file.writeframesraw(samples)
        self.bytes = after

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
