"""MP3 without an Info header, as a pipe writes it: all frames are read, and no more than there are."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.speech import audio, mpeg
from sottovoce.speech.decoded import AudioError

SECONDS = 3.0


def speechlike(rate: int, channels: int = 1) -> np.ndarray:
    """(frames, channels): loud noise, then near silence, for which a variable bit rate takes few bits."""
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.4, 0.4, (round(SECONDS * rate), channels))
    sound[rate:] *= 0.001
    return sound


def write(path: Path, rate: int, *, channels: int = 1, mode: str = "VARIABLE", coding: str = "MPEG_LAYER_III") -> bytes:
    soundfile.write(
        path, speechlike(rate, channels), rate, format="MP3", subtype=coding, bitrate_mode=mode, compression_level=0.1
    )
    return path.read_bytes()


def frames_of(data: bytes) -> tuple[bytes, ...]:
    stream = mpeg.read_stream(data)
    assert stream is not None
    found = []
    for run in stream.runs:
        at = run.start
        while at < run.stop:
            found.append(data[at : at + mpeg._header(data[at : at + 4])[1]])
            at += len(found[-1])
    assert (len(found), max(map(len, found)), len(found[-1])) == (stream.n_frames, stream.longest, stream.last)
    return tuple(found)


def headerless(path: Path, rate: int, **options) -> mpeg.Stream:
    """Write the frames alone, without the Info header that comes first."""
    data = write(path, rate, **options)
    frames = frames_of(data)
    assert mpeg.read_stream(data).promised == len(frames)
    path.write_bytes(b"".join(frames))
    stream = mpeg.read_stream(path.read_bytes())
    assert stream is not None
    return stream


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_a_stream_without_a_header_is_read_to_its_last_frame(tmp_path, rate, channels, mode):
    path = tmp_path / "stream.mp3"
    stream = headerless(path, rate, channels=channels, mode=mode)
    seconds = stream.n_frames * stream.kind.samples / rate
    assert stream.kind.rate == rate
    assert SECONDS < seconds < SECONDS + 0.3  # the delays of encoder and decoder, nobody says how long they are
    assert audio.seconds(path) == pytest.approx(seconds, abs=1e-9)
    assert len(audio.read(path)) == pytest.approx(seconds * 16_000, abs=1)


def test_libsndfile_alone_would_have_cut_it(tmp_path):
    path = tmp_path / "stream.mp3"
    stream = headerless(path, 44_100)
    with soundfile.SoundFile(path) as file:
        assert file.frames < 0.9 * stream.n_frames * stream.kind.samples


def test_what_is_read_are_the_samples_of_the_whole_file_with_the_encoders_delay(tmp_path):
    with_header, path = tmp_path / "whole.mp3", tmp_path / "stream.mp3"
    write(with_header, 16_000)
    headerless(path, 16_000)
    whole, alone = audio.read(with_header), audio.read(path)
    assert len(whole) == SECONDS * 16_000
    delays = range(len(alone) - len(whole) + 1)
    apart = [np.abs(alone[delay : delay + len(whole)] - whole).max() for delay in delays]
    assert min(apart) < 1e-5


def test_tags_and_junk_around_the_frames_are_stepped_over(tmp_path):
    path = tmp_path / "tagged.mp3"
    headerless(path, 16_000)
    frames = frames_of(path.read_bytes())
    expected = audio.read(path)
    picture = b"APIC" + frames[0] * 3 + b"\xff\xfb\x90\x00" * 40
    size = bytes(len(picture) >> shift & 0x7F for shift in (21, 14, 7, 0))
    tag = b"ID3\x04\0\0" + size + picture
    path.write_bytes(tag + bytes(300) + b"".join(frames) + b"TAG" + b"\xff\xfb\x90\x00".ljust(125, b"x"))
    assert frames_of(path.read_bytes()) == frames
    np.testing.assert_array_equal(audio.read(path), expected)


def test_a_last_frame_that_is_cut_does_not_count(tmp_path):
    path = tmp_path / "stream.mp3"
    stream = headerless(path, 16_000)
    frames = frames_of(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-1])
    assert frames_of(path.read_bytes()) == frames[:-1]
    assert audio.seconds(path) == pytest.approx((stream.n_frames - 1) * 576 / 16_000)


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
@pytest.mark.parametrize("lost", [1, 30])
def test_a_header_that_promises_more_frames_than_are_there_is_refused(tmp_path, call, lost):
    path = tmp_path / "cut.mp3"
    data = write(path, 16_000)
    frames = frames_of(data)
    path.write_bytes(data[: -sum(map(len, frames[-lost:]))])
    said = rf"cut\.mp3 is cut short: its header promises {len(frames)} MP3 frames and {len(frames) - lost} are there"
    with pytest.raises(AudioError, match=said):
        call(path)


def test_two_files_one_after_the_other_are_read_as_both(tmp_path):
    path = tmp_path / "both.mp3"
    data = write(path, 16_000)
    path.write_bytes(data + data)
    assert 2 * SECONDS <= audio.seconds(path) < 2 * SECONDS + 0.5
    assert len(audio.read(path)) == pytest.approx(audio.seconds(path) * 16_000, abs=1)


@pytest.mark.parametrize("marker", [b"Info", b"Xing"])
def test_a_header_that_names_no_number_promises_none(tmp_path, marker):
    path = tmp_path / "odd.mp3"
    data = bytearray(write(path, 16_000))
    at = max(data.find(b"Info"), data.find(b"Xing"))
    count = len(frames_of(bytes(data)))
    data[at : at + 4] = marker
    data[at + 7] &= 0xFE
    path.write_bytes(data)
    stream = mpeg.read_stream(bytes(data))
    assert (stream.promised, stream.n_frames) == (None, count)
    assert audio.seconds(path) == pytest.approx(count * 576 / 16_000)


def test_fraunhofers_header_promises_too(tmp_path):
    path = tmp_path / "vbri.mp3"
    stream = headerless(path, 44_100)
    frames = frames_of(path.read_bytes())
    first = bytearray(frames[0].ljust(400, b"\0"))
    first[4:] = bytes(len(first) - 4)
    first[36:40], first[50:54] = b"VBRI", stream.n_frames.to_bytes(4, "big")
    length = mpeg._header(bytes(first[:4]))[1]
    path.write_bytes(bytes(first[:length]) + b"".join(frames))
    assert mpeg.read_stream(path.read_bytes()).promised == stream.n_frames
    path.write_bytes(bytes(first[:length]) + b"".join(frames[:-9]))
    with pytest.raises(AudioError, match="cut short"):
        audio.read(path)


@pytest.mark.parametrize("coding", ["MPEG_LAYER_I", "MPEG_LAYER_II"])
def test_older_layers_are_counted_by_the_same_headers(coding):
    """Frames of silence as the standard lays them out: a header, no bits for any band."""
    head = {"MPEG_LAYER_I": b"\xff\xff\x90\xc0", "MPEG_LAYER_II": b"\xff\xfd\x90\xc0"}[coding]
    kind, length = mpeg._header(head)
    stream = mpeg.read_stream(head.ljust(length, b"\0") * 50)
    assert (stream.n_frames, stream.samples) == (50, 50 * kind.samples)
    with soundfile.SoundFile(stream.without_header()) as file:
        assert file.subtype == coding
        assert file.frames >= stream.samples


@pytest.mark.parametrize("data", [b"", b"\xff", bytes(1_000), b"no audio " * 50, b"\xff\xfb\x90\x00" + bytes(9)])
def test_what_holds_no_frames_is_no_stream(data):
    assert mpeg.read_stream(data) is None
