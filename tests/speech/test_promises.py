"""Headers of uncompressed audio: what they promise is held against what is there, whatever the container."""

import struct

import numpy as np
import pytest
import soundfile

from sottovoce.speech import audio
from sottovoce.speech.decoded import AudioError

CONTAINERS = {
    "wav": ("WAV", "PCM_16"),
    "wavex": ("WAVEX", "PCM_16"),
    "rifx": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "aifc": ("AIFF", "ULAW"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "sph": ("NIST", "PCM_16"),
    "ulaw.sph": ("NIST", "ULAW"),
    "gsm.wav": ("WAV", "GSM610"),
    "stereo.sph": ("NIST", "PCM_16"),
}


@pytest.fixture(params=CONTAINERS)
def written(tmp_path, request):
    container, coding = CONTAINERS[request.param]
    channels = 2 if "stereo" in request.param else 1
    path = tmp_path / f"noise.{request.param}"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (16_000, channels))
    endian = "BIG" if request.param == "rifx" else None
    soundfile.write(path, noise, 16_000, format=container, subtype=coding, endian=endian)
    return path


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_file_that_holds_less_than_its_header_promises_is_refused(written, call, kept):
    assert audio.seconds(written) == 1.0
    whole = written.read_bytes()
    written.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(AudioError, match=r"noise.* is cut short: its header promises \d+ bytes of samples and \d+ are"):
        call(written)


@pytest.mark.parametrize(
    ("container", "mark", "at", "size"),
    [
        ("AU", b".snd", 8, b"\xff\xff\xff\xff"),
        ("AIFF", b"SSND", 4, b"\0\0\0\0"),
        ("AIFF", b"SSND", 4, b"\x7f\xff\xff\xff"),
        ("AIFF", b"SSND", 4, b"\xff\xff\xff\xff"),
        ("W64", b"data", 16, b"\xff" * 8),
    ],
)
def test_a_writer_that_left_the_size_open_promised_nothing(tmp_path, container, mark, at, size):
    path = tmp_path / f"open.{container.lower()}"
    soundfile.write(path, np.full(16_000, 0.1), 16_000, format=container, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    place = data.find(mark) + at
    data[place : place + len(size)] = size
    path.write_bytes(data)
    assert audio.seconds(path) == pytest.approx(1.0, abs=1e-3)
    assert len(audio.read(path)) == pytest.approx(16_000, abs=16)


def test_chunks_before_the_samples_are_stepped_over(tmp_path):
    path = tmp_path / "marked.aiff"
    soundfile.write(path, np.full(16_000, 0.1), 16_000, format="AIFF", subtype="PCM_16")
    whole = path.read_bytes()
    at = whole.find(b"SSND")
    path.write_bytes(whole[:at] + b"ANNO" + struct.pack(">I", 5) + b"hello\0" + whole[at:])
    assert audio.seconds(path) == 1.0
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(AudioError, match="cut short"):
        audio.read(path)
