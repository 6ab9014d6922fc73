import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.speech import audio


def tone(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def refuses(call, *sayings: str) -> None:
    """The message is one sentence on one line and says all of these."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    message = str(caught.value)
    assert "\n" not in message
    for saying in sayings:
        assert saying in message


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(), 16_000, subtype="PCM_16")
    return path


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 2**-6),
        ("wav", "PCM_16", 2**-14),
        ("wav", "PCM_24", 2**-22),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("flac", "PCM_16", 2**-14),
        ("ogg", "VORBIS", 0.05),
    ],
)
def test_every_common_coding_reads_as_the_samples_that_were_written(tmp_path, suffix, subtype, tolerance):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(), 16_000, subtype=subtype)
    samples = audio.read(path)
    assert samples.dtype == np.float32
    assert samples.shape == (16_000,)
    assert np.abs(samples - tone()).max() <= tolerance


def test_stereo_becomes_the_mean_of_its_channels(tmp_path):
    left, right = tone(hertz=300), tone(hertz=500)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "two.wav"), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_the_length_and_the_tone(tmp_path, rate):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(rate=rate), rate, subtype="FLOAT")
    samples = audio.read(path)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16_000) <= 1
    inner = slice(1_000, 15_000)  # the filter rings at the ends
    np.testing.assert_allclose(samples[inner], tone()[inner], atol=1e-3)


def test_another_sampling_rate_can_be_asked_for(wav):
    assert len(audio.read(wav, 8_000)) == 8_000
    refuses(lambda: audio.read(wav, 0), "tone.wav", "sampling rate 0", "16000")


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_seconds_are_those_of_the_file_at_its_own_rate(tmp_path, rate):
    soundfile.write(tmp_path / "a.flac", tone(1.5, rate), rate)
    assert audio.seconds(tmp_path / "a.flac") == pytest.approx(1.5)


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
def test_a_missing_file_is_named(tmp_path, call):
    refuses(lambda: call(tmp_path / "nowhere.wav"), "nowhere.wav", "there is no audio file", "give the path")


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
def test_a_folder_is_refused_as_a_folder(tmp_path, call):
    refuses(lambda: call(tmp_path), str(tmp_path), "is a folder", "give one audio file")


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
def test_an_empty_file_is_refused_as_empty(tmp_path, call):
    (tmp_path / "empty.wav").touch()
    refuses(lambda: call(tmp_path / "empty.wav"), "empty.wav", "0 bytes", "again")


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
@pytest.mark.parametrize("name", ["words.wav", "words.txt", "words.raw"])
def test_what_is_not_audio_is_refused_whatever_its_name(tmp_path, call, name):
    (tmp_path / name).write_text("this is not audio " * 20)
    refuses(lambda: call(tmp_path / name), name, "not audio", "convert it to WAV or FLAC")


@pytest.mark.parametrize("cut", [4, 12, 20, 40])
def test_a_wav_cut_within_its_header_is_refused(wav, cut):
    wav.write_bytes(wav.read_bytes()[:cut])
    refuses(lambda: audio.read(wav), "tone.wav", "not audio")


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
def test_a_file_of_no_samples_is_refused(tmp_path, call):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    refuses(lambda: call(tmp_path / "none.wav"), "none.wav", "0 samples", "leave it out")


def test_a_file_shorter_than_one_sample_after_resampling_is_refused(tmp_path):
    soundfile.write(tmp_path / "click.wav", np.ones(1), 48_000)
    refuses(lambda: audio.read(tmp_path / "click.wav"), "click.wav", "shorter than one sample", "leave it out")


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
@pytest.mark.parametrize("lost", [1, 2, 16_000])
def test_a_wav_that_holds_less_than_its_header_promises_is_refused(wav, call, lost):
    whole = wav.read_bytes()
    wav.write_bytes(whole[:-lost])
    refuses(lambda: call(wav), "tone.wav", "promises 32000 bytes", f"{32_000 - lost} are there", "copy")


def test_a_chunk_of_odd_size_before_the_samples_is_stepped_over(wav):
    whole = wav.read_bytes()
    at = whole.find(b"data")
    odd = b"note" + struct.pack("<I", 5) + b"hello\0"  # padded to even
    wav.write_bytes(whole[:at] + odd + whole[at:])
    assert len(audio.read(wav)) == 16_000
    wav.write_bytes(wav.read_bytes()[:-100])
    refuses(lambda: audio.read(wav), "cut short")


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF])
def test_a_wav_whose_writer_left_the_size_open_reads_to_its_end(wav, size):
    samples = audio.read(wav)
    whole = bytearray(wav.read_bytes())
    at = whole.find(b"data") + 4
    whole[at : at + 4] = struct.pack("<I", size)
    wav.write_bytes(whole)
    np.testing.assert_array_equal(audio.read(wav), samples)
    assert audio.seconds(wav) == 1.0


def test_a_chunk_after_an_empty_data_chunk_is_not_taken_for_samples(tmp_path):
    path = tmp_path / "none.wav"
    soundfile.write(path, np.zeros(0), 16_000)
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO")
    refuses(lambda: audio.read(path), "none.wav", "0 samples")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_flac_that_is_cut_short_is_refused(tmp_path, kept):
    path = tmp_path / "noise.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 16_000), 16_000)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    refuses(lambda: audio.read(path), "noise.flac", "cut short", "copy or download it again")


@pytest.mark.parametrize("kept", [0.6, 0.95])
def test_an_mp3_with_fewer_frames_than_its_header_says_is_refused(tmp_path, kept):
    path = tmp_path / "tone.mp3"
    soundfile.write(path, tone(), 16_000)
    assert len(audio.read(path)) == 16_000
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    refuses(lambda: audio.read(path), "tone.mp3", "promises 30 MP3 frames", "copy or download it again")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_second_of_the_first_sample_that_is_no_number_is_said(tmp_path, value):
    samples = tone()
    samples[[4_000, 9_000]] = value
    soundfile.write(tmp_path / "bad.wav", samples, 16_000, subtype="FLOAT")
    refuses(lambda: audio.read(tmp_path / "bad.wav"), "bad.wav", "NaN or infinite", "0.250 seconds", "16-bit")


def test_a_fingerprint_is_that_of_the_bytes_and_not_of_the_name(wav, tmp_path):
    copy = tmp_path / "copy.wav"
    shutil.copy(wav, copy)
    assert audio.fingerprint(wav) == audio.fingerprint(copy) == hashlib.sha256(wav.read_bytes()).hexdigest()[:16]
    copy.write_bytes(wav.read_bytes() + b"\0")
    assert audio.fingerprint(wav) != audio.fingerprint(copy)


def antiphase(path: Path, *gains: float, noise: float = 0.0) -> Path:
    """One voice in every channel, times its gain; noise is each channel's own."""
    rng = np.random.default_rng(0)
    channels = [gain * tone() + noise * rng.standard_normal(16_000) for gain in gains]
    soundfile.write(path, np.stack(channels, axis=1), 16_000, subtype="FLOAT")
    return path


@pytest.mark.parametrize("gains", [(1, -1), (1, -0.8), (0.5, -0.5, 0, 0), (1, -1, 1, -1)])
def test_channels_that_cancel_each_other_are_refused_and_not_read_as_silence(tmp_path, gains):
    path = antiphase(tmp_path / "wired.wav", *gains)
    sayings = ("wired.wav", f"{len(gains)} channels cancel each other", "opposite polarity", "write one channel to")
    refuses(lambda: audio.read(path), *sayings)


def test_channels_that_cancel_are_refused_where_each_has_noise_of_its_own(tmp_path):
    path = antiphase(tmp_path / "wired.wav", 1, -1, noise=0.08)  # 13 dB below the tone
    refuses(lambda: audio.read(path), "wired.wav", "dB of their power is lost")


@pytest.mark.parametrize(
    ("gains", "noise"),
    [((1, 1), 0), ((1, 0), 0), ((0, 0), 0.1), ((0,) * 8, 0.1), ((0, 0), 0), ((1, -0.3), 0), ((1,) + (0,) * 7, 0)],
)
def test_channels_of_one_sound_of_different_ones_or_of_none_are_averaged(tmp_path, gains, noise):
    path = antiphase(tmp_path / "room.wav", *gains, noise=noise)
    assert audio.read(path).shape == (16_000,)


def test_a_constant_offset_of_opposite_sign_is_no_sound_that_cancels(tmp_path):
    offset = np.array([0.4, -0.4])
    soundfile.write(tmp_path / "two.wav", 0.1 * tone()[:, None] + offset, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "two.wav"), 0.1 * tone(), atol=1e-6)
