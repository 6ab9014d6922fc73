"""Every container and coding that libsndfile writes is read again: the samples, and how long they last."""

import numpy as np
import pytest
import soundfile

from sottovoce.speech import audio
from sottovoce.speech.decoded import AudioError

HERTZ, SECONDS = 440.0, 0.4
PADDING = 4_100  # frames: the last block of an ADPCM is filled up
CODINGS = [
    (container, coding)
    for container in soundfile.available_formats()
    for coding in soundfile.available_subtypes(container)
    if container != "RAW"  # has no header, and so no rate
]


def tone(rate: float, hertz: float = HERTZ, frames: int | None = None) -> np.ndarray:
    n = round(SECONDS * rate) if frames is None else frames
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(n) / rate)


@pytest.mark.parametrize(("container", "coding"), CODINGS)
def test_what_libsndfile_writes_is_read_with_its_length(container, coding, tmp_path):
    written = 0
    for rate in (8_000, 16_000, 44_100, 48_000) if container != "XI" else (44_100,):  # an instrument has no rate
        for channels in (1, 2, 4):
            path = tmp_path / f"{rate}-{channels}.{container.lower()}"
            one = tone(rate)
            try:
                soundfile.write(path, np.stack([one] * channels, axis=1), rate, format=container, subtype=coding)
            except (soundfile.LibsndfileError, ValueError, TypeError):
                continue  # not every coding takes every rate and number of channels
            written += 1
            stored = soundfile.info(path).samplerate  # some keep a coarse rate, or one only
            samples = audio.read(path)
            assert audio.seconds(path) == pytest.approx(len(samples) / 16_000, abs=1e-4)
            least = len(one) / stored
            assert least - 2e-3 <= audio.seconds(path) <= least + PADDING / stored
            expected = tone(16_000, HERTZ * stored / rate, frames=min(len(samples), int(least * 16_000)))
            inner = slice(800, -800)
            assert np.corrcoef(samples[: len(expected)][inner], expected[inner])[0, 1] > 0.9
    if not written:
        pytest.skip(f"this libsndfile reads {container} {coding} and does not write it")


@pytest.mark.parametrize("coding", ["GSM610", "G721_32", "NMS_ADPCM_16"])
def test_a_coding_that_cannot_be_sought_in_is_read(tmp_path, coding):
    path = tmp_path / "call.wav"
    soundfile.write(path, tone(8_000), 8_000, subtype=coding)
    assert not soundfile.SoundFile(path).seekable()
    assert len(audio.read(path)) == pytest.approx(16_000 * SECONDS, abs=16 * PADDING)


def test_samples_without_a_header_are_refused(tmp_path):
    path = tmp_path / "tone.raw"
    soundfile.write(path, tone(16_000), 16_000, format="RAW", subtype="PCM_16")
    with pytest.raises(AudioError, match=r"tone\.raw is not audio that libsndfile"):
        audio.read(path)


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
@pytest.mark.parametrize("suffix", ["au", "snd", "vox", "gsm"])
def test_any_bytes_are_no_audio_because_of_their_name(tmp_path, call, suffix):
    path = tmp_path / f"words.{suffix}"
    path.write_text("not what it seems " * 50)
    with pytest.raises(AudioError, match=rf"words\.{suffix} (is not audio|needs PyAV, since it has no header)"):
        call(path)


def test_a_flac_whose_writer_did_not_know_its_length_is_read_to_its_end(tmp_path):
    path = tmp_path / "piped.flac"
    soundfile.write(path, tone(16_000), 16_000)
    whole = bytearray(path.read_bytes())
    total = int.from_bytes(whole[18:26], "big")
    whole[18:26] = (total & ~((1 << 36) - 1)).to_bytes(8, "big")  # STREAMINFO's total samples: 0 is unknown
    path.write_bytes(whole)
    assert audio.seconds(path) == SECONDS
    assert len(audio.read(path)) == 16_000 * SECONDS


@pytest.mark.parametrize("call", [audio.read, audio.seconds])
def test_a_file_that_may_not_be_read_is_named(tmp_path, call, monkeypatch):
    path = tmp_path / "secret.wav"
    soundfile.write(path, tone(16_000), 16_000)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "elsewhere")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(AudioError, match=r"secret\.wav cannot be read: Permission denied"):
        call(path)


@pytest.mark.parametrize("coding", ["pcm,embedded-shorten-v2.00", "ulaw,embedded-shorten-v2.00"])
@pytest.mark.parametrize("call", [audio.read, audio.seconds])
def test_sphere_compressed_with_shorten_is_refused_with_the_program_that_expands_it(tmp_path, call, coding):
    path = tmp_path / "wsj.sph"
    head = f"NIST_1A\n   1024\nsample_count -i 16000\nsample_rate -i 16000\nsample_coding -s26 {coding}\nend_head\n"
    path.write_bytes(head.encode().ljust(1024) + b"ajkg" + bytes(2_000))
    with pytest.raises(AudioError, match=r"wsj\.sph is SPHERE compressed with shorten.*sph2pipe -f wav"):
        call(path)
