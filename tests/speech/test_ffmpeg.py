"""What libsndfile does not know is read by PyAV, where it is installed, and refused with its name where it is not."""

import sys

import numpy as np
import pytest
import soundfile

from sottovoce.speech import audio, ffmpeg
from sottovoce.speech.decoded import AudioError
from tests.speech.encoded import encode

SECONDS = 2.0

# name, rate, codec, muxer's options, and how many samples at that rate more than were encoded may be read
WRITTEN = {
    "talk.m4a": (44_100, "aac", {}, 0),
    "fast.m4a": (16_000, "aac", {"movflags": "faststart"}, 0),
    "talk.mp4": (48_000, "aac", {}, 0),
    "alac.m4a": (44_100, "alac", {}, 0),
    "talk.mov": (44_100, "pcm_s16le", {}, 0),
    "call.3gp": (8_000, "libopencore_amrnb", {}, 0),
    "talk.webm": (48_000, "libopus", {}, 0),
    "talk.mka": (48_000, "libopus", {}, 0),
    "flac.mkv": (16_000, "flac", {}, 0),
    "flac.oga": (16_000, "flac", {}, 0),
    "talk.aac": (16_000, "aac", {}, 2 * 1024),  # no header counts what fills the first and the last frame
    "call.amr": (8_000, "libopencore_amrnb", {}, 160),
    "talk.ac3": (48_000, "ac3", {}, 1536),
    "talk.avi": (16_000, "pcm_s16le", {}, 0),
}


def tone(rate: int, channels: int = 1, seconds: float = SECONDS) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * 440 * time)] * channels, axis=1)


@pytest.fixture
def av():
    return pytest.importorskip("av")


@pytest.fixture
def without_av(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_length_is_that_of_what_was_encoded(av, tmp_path, name, channels):
    rate, codec, options, more = WRITTEN[name]
    if channels == 2 and "amr" in codec:
        pytest.skip("AMR has one channel")
    path = encode(
        tmp_path / name, tone(rate, channels), rate, codec, bit_rate=12_200 if "amr" in codec else 0, **options
    )
    samples = audio.read(path)
    assert SECONDS <= audio.seconds(path) <= SECONDS + more / rate
    assert len(samples) == pytest.approx(16_000 * audio.seconds(path), abs=1)
    lag = _delay(samples)
    assert abs(lag) <= 16_000 * more / rate + 100  # AMR's own filters delay by 5 ms, which nobody counts


def _delay(samples: np.ndarray) -> int:
    """By how many samples at 16 kHz a tone begins late, from where it exceeds a tenth of full scale."""
    return int(np.argmax(np.abs(samples) > 0.1))


def test_what_fills_the_first_frame_of_aac_is_left_out_of_mp4(av, tmp_path):
    click = np.zeros((16_000, 1))
    click[8_000:8_040] = 0.9
    path = encode(tmp_path / "click.m4a", click, 16_000, "aac")
    assert abs(int(np.abs(audio.read(path)).argmax()) - 8_020) < 40


def test_mp4_ends_where_its_track_ends(av, tmp_path):
    path = encode(tmp_path / "odd.m4a", tone(16_000)[:20_001], 16_000, "aac")
    with av.open(str(path)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) > 20_001  # a frame of AAC has 1024
    assert len(audio.read(path)) == pytest.approx(20_001, abs=16)  # MP4 counts milliseconds


def test_gsm_without_a_header_is_known_by_its_frames(av, tmp_path):
    path = tmp_path / "call.gsm"
    soundfile.write(path, tone(8_000), 8_000, format="RAW", subtype="GSM610")
    assert audio.seconds(path) == SECONDS


def test_eight_channels_are_averaged(av, tmp_path):
    loud = tone(48_000, 8)
    loud[:, 1:] = 0
    samples = audio.read(encode(tmp_path / "rig.mov", loud, 48_000, "pcm_s16le"))
    np.testing.assert_allclose(np.abs(samples[2_000:-2_000]).max(), 0.3 / 8, rtol=0.01)
    soundfile.write(tmp_path / "rig.wav", loud, 48_000)
    np.testing.assert_allclose(samples, audio.read(tmp_path / "rig.wav"), atol=1e-4)


def test_eight_planes_are_read_within_their_bounds(av, tmp_path):
    path = encode(tmp_path / "rig.m4a", tone(48_000, 8), 48_000, "aac")
    assert len(audio.read(path)) == 16_000 * SECONDS


def test_the_sound_of_a_film_is_read(av, tmp_path):
    for name in ("film.mp4", "film.mkv", "film.mov"):
        path = encode(tmp_path / name, tone(48_000, 2), 48_000, "aac", picture=True)
        assert audio.seconds(path) == pytest.approx(SECONDS, abs=0.03)


def test_a_film_without_sound_is_refused(av, tmp_path):
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as file:
        film = file.add_stream("mpeg4", rate=2, width=32, height=32, pix_fmt="yuv420p")
        file.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        file.mux(film.encode(None))
    with pytest.raises(AudioError, match=r"silent\.mp4 is not audio.*it has no audio track; leave it out"):
        audio.read(path)


def test_which_of_several_tracks_is_read_is_said(av, tmp_path):
    path = encode(tmp_path / "two.mka", tone(48_000), 48_000, "libopus", tracks=2)
    with pytest.warns(UserWarning, match=r"two\.mka has 2 audio tracks; track 1 is read"):
        audio.read(path)


@pytest.mark.parametrize("name", ["fast.m4a", "talk.webm", "talk.mka", "flac.mkv", "talk.aac"])
@pytest.mark.parametrize("call", [audio.read, audio.seconds])
def test_what_is_cut_short_is_refused(av, tmp_path, name, call):
    rate, codec, options, _ = WRITTEN[name]
    path = encode(tmp_path / name, tone(rate), rate, codec, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 7])
    with pytest.raises(AudioError, match="cut short"):
        call(path)


def test_a_film_whose_sound_ends_early_is_whole(av, tmp_path):
    """Pictures go on to the end that the header promises."""
    path = tmp_path / "credits.mkv"
    encode(path, tone(48_000), 48_000, "libopus", picture=True)
    with av.open(str(path)) as container:
        assert container.duration >= SECONDS * av.time_base
    assert audio.seconds(path) == pytest.approx(SECONDS, abs=0.03)


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile other.m4a\n", "#EXTM3U\n#EXTINF:2,\nother.m4a\n#EXT-X-ENDLIST\n"]
)
def test_a_list_of_other_files_is_no_audio(av, tmp_path, text):
    encode(tmp_path / "other.m4a", tone(16_000), 16_000, "aac")
    (tmp_path / "list.m3u8").write_text(text)
    with pytest.raises(AudioError, match=r"list\.m3u8 is"):
        audio.read(tmp_path / "list.m3u8")


def test_tags_in_an_old_alphabet_are_no_obstacle(av, tmp_path):
    path = encode(tmp_path / "old.m4a", tone(16_000), 16_000, "alac")
    data = path.read_bytes()
    at = data.find(b"Lavf")
    path.write_bytes(data[:at] + b"L\xe4vf" + data[at + 4 :])
    assert audio.seconds(path) == SECONDS


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
@pytest.mark.parametrize("suffix", ffmpeg.SUFFIXES)
def test_without_pyav_the_command_that_brings_it_is_said(tmp_path, without_av, call, suffix):
    path = tmp_path / f"talk{suffix}"
    path.write_bytes(b"\x01not what libsndfile knows" * 20)
    with pytest.raises(AudioError, match=rf'talk\{suffix} needs PyAV, .*: pip install "sottovoce\[av\]", or convert'):
        call(path)


@pytest.mark.parametrize("head", [b"\0\0\0\x20ftypM4A ", b"\x1a\x45\xdf\xa3", b"#!AMR\n", b"RIFF\0\0\0\0AVI LIST"])
def test_without_pyav_containers_are_known_by_their_first_bytes_too(tmp_path, without_av, head):
    path = tmp_path / "upload"
    path.write_bytes(head + bytes(100))
    with pytest.raises(AudioError, match=r"upload needs PyAV"):
        audio.read(path)


def test_without_pyav_what_is_no_audio_is_not_said_to_need_it(tmp_path, without_av):
    (tmp_path / "words.txt").write_text("this is not audio " * 20)
    with pytest.raises(AudioError, match=r"words\.txt is not audio that libsndfile knows.*convert it to WAV or FLAC"):
        audio.read(tmp_path / "words.txt")
