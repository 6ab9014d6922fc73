"""Ogg files of which libsndfile decodes a part: they are read whole, by FFmpeg, or refused."""

import sys

import numpy as np
import pytest
import soundfile

from sottovoce.speech import audio, ogg, stream
from sottovoce.speech.decoded import AudioError

REMAINDER = 0xFFFFFFFF
POLYNOMIAL = 0x04C11DB7


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, round(16_000 * seconds))


def checksum(page: bytes) -> int:
    """Ogg's CRC, bit by bit."""
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (POLYNOMIAL if register >> 31 else 0)) & REMAINDER
    return register


def pages(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        length = 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
        found.append(data[at : at + length])
        at += length
    return found


def joined(first: bytes, second: bytes) -> bytes:
    """Two pages as one, as an old encoder lays the headers' end and the first audio."""
    head = bytearray(second[:27])
    head[5], head[18:22], head[22:26] = first[5], first[18:22], bytes(4)
    head[26] = first[26] + second[26]
    page = bytes(head) + first[27 : 27 + first[26]] + second[27 : 27 + second[26]]
    page += first[27 + first[26] :] + second[27 + second[26] :]
    return page[:22] + checksum(page).to_bytes(4, "little") + page[26:]


@pytest.fixture(params=["VORBIS", "OPUS"])
def chained(tmp_path, request):
    """Two streams one after the other, 1.0 and 0.5 seconds."""
    path = tmp_path / "radio.ogg"
    for name, seconds in (("a", 1.0), ("b", 0.5)):
        soundfile.write(tmp_path / name, noise(seconds), 16_000, format="OGG", subtype=request.param)
    path.write_bytes((tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes())
    return path


@pytest.fixture
def crowded(tmp_path):
    """A Vorbis stream whose first audio begins on the page where the headers end."""
    path = tmp_path / "old.ogg"
    soundfile.write(path, noise(2.0), 16_000, format="OGG", subtype="VORBIS")
    first, headers, audio_page, *rest = pages(path.read_bytes())
    rest = [bytearray(page) for page in rest]
    for number, page in enumerate(rest, start=2):
        page[18:22], page[22:26] = number.to_bytes(4, "little"), bytes(4)
        page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
    path.write_bytes(first + joined(headers, audio_page) + b"".join(rest))
    return path


def test_streams_one_after_the_other_are_all_read(chained):
    pytest.importorskip("av")
    assert soundfile.info(chained).duration == 1.0  # libsndfile alone
    assert audio.seconds(chained) == pytest.approx(1.5, abs=0.05)
    assert len(audio.read(chained)) == pytest.approx(24_000, abs=800)


def test_audio_on_the_page_of_the_headers_is_read(crowded):
    pytest.importorskip("av")
    assert soundfile.info(crowded).duration < 1.9  # libsndfile alone
    assert audio.seconds(crowded) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
def test_without_pyav_they_are_refused_and_not_read_in_part(chained, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        AudioError, match=r'radio\.ogg needs PyAV, since it holds several.*pip install "sottovoce\[av\]"'
    ):
        call(chained)


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_a_file_as_encoders_write_it_loses_nothing(tmp_path, coding):
    path = tmp_path / "plain.ogg"
    soundfile.write(path, noise(3.0), 16_000, format="OGG", subtype=coding)
    assert ogg.left_out(path.read_bytes()) is None
    assert audio.seconds(path) == 3.0


# --- cut short ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.93, "page"])
def test_an_ogg_that_ends_before_its_end_is_not_whole(tmp_path, share):
    """libsndfile decodes what is there and says nothing; it counted as done."""
    whole = tmp_path / "whole.ogg"
    soundfile.write(whole, np.random.default_rng(0).uniform(-0.3, 0.3, 48_000), 16_000, format="OGG", subtype="VORBIS")
    data = whole.read_bytes()
    end = data.rindex(b"OggS") if share == "page" else int(len(data) * share)
    cut = tmp_path / "cut.ogg"
    cut.write_bytes(data[:end])
    assert len(audio.read(whole)) == 48_000
    blocks = stream.blocks(cut)
    there = len(next(blocks))
    with pytest.raises(AudioError, match=r"cut\.ogg is cut short: its last Ogg page is not the end of its stream"):
        there += sum(map(len, blocks))
    assert 0 < there < 48_000
