import numpy as np
import pytest
import soundfile

from sottovoce.speech.told_length import told_seconds


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_header_tells_the_length(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.zeros((12_000, 2), np.float32), 8_000)
    assert told_seconds(path) == pytest.approx(1.5)


def test_what_is_no_audio_tells_none(tmp_path):
    (tmp_path / "a.m4a").write_bytes(b"no audio at all")
    assert told_seconds(tmp_path / "a.m4a") is None
    assert told_seconds(tmp_path / "gone.wav") is None
