import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from sottovoce.speech import audio, stream
from sottovoce.speech.decoded import AudioError
from tests.speech.encoded import encode
from tests.tiers import slow_ones

RATES = (8_000, 16_000, 44_100)


def two_tones(rate: int, seconds: float = 3.3) -> np.ndarray:
    """(frames, 2): a tone in each channel, one of them of a sound that comes and goes."""
    time = np.arange(round(rate * seconds)) / rate
    loud = 0.3 * np.sin(2 * np.pi * 3 * time)
    return np.stack([0.4 * np.sin(2 * np.pi * 440 * time), loud * np.sin(2 * np.pi * 700 * time)], axis=1)


def write(folder: Path, suffix: str, rate: int) -> Path:
    path = folder / f"talk.{suffix}"
    if suffix in ("m4a", "webm"):
        pytest.importorskip("av")
        coding, rate = ("aac", rate) if suffix == "m4a" else ("libopus", 48_000)
        return encode(path, two_tones(rate), rate, coding)
    soundfile.write(path, two_tones(rate), rate)
    return path


def until_error(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, str]:
    """What comes before an error, and what the error says."""
    found = []
    try:
        for block in blocks:
            found.append(block)
    except ValueError as error:
        return np.concatenate([np.zeros(0, np.float32), *found]), str(error)
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "m4a", "webm"])
@pytest.mark.parametrize("rate", RATES)
def test_the_blocks_are_the_file_resampled_as_a_whole(tmp_path, suffix, rate):
    path = write(tmp_path, suffix, rate)
    found = list(stream.blocks(path))
    assert all(block.dtype == np.float32 and len(block) <= 2.1 * 16_000 for block in found)
    assert len(found) >= 3
    channels = np.concatenate([block.channels for block in stream.decoded(path)])
    own = next(stream.decoded(path)).rate
    whole = soxr.resample(channels.mean(axis=1, dtype=np.float32), own, 16_000, quality="HQ")
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(found), audio.read(path))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_what_is_decoded_is_what_libsndfile_decodes_at_once(tmp_path, suffix):
    path = write(tmp_path, suffix, 44_100)
    whole, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(np.concatenate([block.channels for block in stream.decoded(path)]), whole)


def test_one_channel_can_be_read_alone(tmp_path):
    path = write(tmp_path, "flac", 16_000)
    assert stream.channels(path) == 2
    for channel in (0, 1):
        samples = np.concatenate(list(stream.blocks(path, channel=channel)))
        np.testing.assert_allclose(samples, two_tones(16_000)[:, channel], atol=1e-4)
    for channel in (-1, 2):
        _, said = until_error(stream.blocks(path, channel=channel))
        assert f"channel {channel} asked for" in said
        assert "2 channels, 0 to 1" in said


@pytest.mark.parametrize("start", [0.0, 0.1, 1.0, 2.345])
@pytest.mark.parametrize("suffix", ["wav", "mp3"])
def test_a_later_start_gives_the_same_samples_from_there_on(tmp_path, suffix, start):
    path = write(tmp_path, suffix, 44_100)
    later = np.concatenate(list(stream.blocks(path, start=start)))
    np.testing.assert_array_equal(later, audio.read(path)[round(16_000 * start) :])


def test_a_start_behind_the_end_or_before_the_beginning_is_refused(tmp_path):
    path = write(tmp_path, "wav", 16_000)
    assert list(stream.blocks(path, start=3.3)) == []
    assert "it has 3.300" in until_error(stream.blocks(path, start=3.4))[1]
    assert "0 is its beginning" in until_error(stream.blocks(path, start=-1))[1]


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_of_a_file_that_is_cut_short_all_that_is_there_comes_before_the_error(tmp_path, suffix, rate):
    path = write(tmp_path, suffix, rate)
    if suffix == "m4a":
        encode(path, two_tones(rate), rate, "aac", movflags="faststart")
    whole, data = audio.read(path), path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    there, said = until_error(stream.blocks(path))
    assert "cut short" in said
    assert said == until_error(_read(path))[1]
    assert len(there) > 0.45 * len(whole)
    inner = slice(0, len(there) - 2_000)
    np.testing.assert_allclose(there[inner], whole[: len(there)][inner], atol=1e-4)


def _read(path: Path) -> Iterator[np.ndarray]:
    yield audio.read(path)


def test_each_sample_before_the_damage_is_there(tmp_path):
    path = tmp_path / "noise.flac"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 100_000)
    soundfile.write(path, noise, 16_000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    there, _ = until_error(stream.blocks(path))
    assert len(there) % 4_096 == 0  # frames of FLAC that are whole
    assert 50_000 - 3 * 4_096 < len(there) <= 50_000
    np.testing.assert_allclose(there, noise[: len(there)], atol=1e-4)


@pytest.mark.parametrize("rate", RATES)
def test_channels_that_cancel_are_refused_at_the_end_and_only_if_the_whole_file_does(tmp_path, rate):
    path = tmp_path / "wired.wav"
    tone = two_tones(rate)[:, 0]
    soundfile.write(path, np.stack([tone, -tone], axis=1), rate)
    there, said = until_error(stream.blocks(path))
    assert "2 channels cancel each other" in said
    assert len(there) == pytest.approx(3.3 * 16_000, abs=1)
    again = np.stack([np.concatenate([tone, tone]), np.concatenate([-tone, tone])], axis=1)
    soundfile.write(path, again, rate)  # cancels in its first half alone
    assert sum(map(len, stream.blocks(path))) == pytest.approx(6.6 * 16_000, abs=1)


def test_where_a_sample_is_no_number_is_told_in_seconds_of_the_file(tmp_path):
    samples = two_tones(16_000)[:, 0]
    samples[40_000] = np.nan
    soundfile.write(tmp_path / "bad.wav", samples, 16_000, subtype="FLOAT")
    assert "NaN or infinite sample at 2.500 seconds" in until_error(stream.blocks(tmp_path / "bad.wav"))[1]


@pytest.mark.parametrize(
    ("data", "saying"), [(None, "there is no audio file"), (b"", "0 bytes"), (b"not audio " * 99, "not audio")]
)
def test_what_cannot_be_read_is_refused_before_the_first_block(tmp_path, data, saying):
    path = tmp_path / "words.wav"
    if data is not None:
        path.write_bytes(data)
    for call in (stream.blocks(path), _read(path)):
        found, said = until_error(call)
        assert not len(found)
        assert saying in said
    with pytest.raises(AudioError, match=saying):
        stream.channels(path)


MEASURED = """
import resource, sys
from sottovoce.speech import stream
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(map(len, stream.blocks(sys.argv[1]))), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are counted in KiB on Linux")
@pytest.mark.parametrize("suffix", ["wav", *slow_ones("mp3")])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    path = tmp_path / f"long.{suffix}"
    minutes = 4
    with soundfile.SoundFile(path, "w", 16_000, 2) as file:
        for _ in range(minutes):
            file.write(np.tile(two_tones(16_000, 1.0), (60, 1)))
    if suffix == "mp3":  # as a pipe would leave it, so that its frames are counted and it is read in pieces
        path.write_bytes(path.read_bytes().replace(b"Info", b"none", 1).replace(b"Xing", b"none", 1))
    done = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True)
    samples, more = map(int, done.stdout.split())
    assert samples == pytest.approx(minutes * 60 * 16_000, rel=0.001)
    assert more < 12_000  # KiB; the decoded file has 30,000, and its samples twice 15,000
