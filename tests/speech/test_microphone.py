import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from sottovoce.speech import microphone as room
from sottovoce.speech.microphone import microphone

DEVICES = [
    {"index": 0, "name": "Speakers", "max_input_channels": 0, "default_samplerate": 48_000.0},
    {"index": 1, "name": "Built-in Microphone", "max_input_channels": 1, "default_samplerate": 16_000.0},
    {"index": 2, "name": "USB Microphone", "max_input_channels": 2, "default_samplerate": 48_000.0},
]


class PortAudioError(Exception):
    pass


@dataclass
class Stream:
    """Calls back with what it was told to hear as soon as it is opened."""

    heard: list
    asked: dict

    def __enter__(self):
        for block, lost in self.heard:
            self.asked["callback"](block[:, None], len(block), None, SimpleNamespace(input_overflow=lost))

    def __exit__(self, *_):
        self.asked["closed"] = True


@pytest.fixture
def sounddevice(monkeypatch):
    module = ModuleType("sounddevice")
    module.heard, module.asked = [], {}
    module.PortAudioError, module.default = PortAudioError, SimpleNamespace(device=[1, 0])
    module.query_devices = lambda: DEVICES

    def opened(**asked):
        module.asked.update(asked)
        return Stream(module.heard, module.asked)

    module.InputStream = opened
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def ramp(length):
    return np.linspace(0, 1, length, dtype=np.float32)


def test_all_that_has_come_is_one_block(sounddevice):
    sounddevice.heard = [(ramp(10), False), (ramp(7), False)]
    with microphone(16_000) as blocks:
        assert np.array_equal(next(blocks), np.concatenate([ramp(10), ramp(7)]))
    assert (sounddevice.asked["device"], sounddevice.asked["samplerate"]) == (1, 16_000)
    assert sounddevice.asked["closed"]


def test_another_rate_is_resampled(sounddevice):
    sounddevice.heard = [(np.sin(np.arange(48_000) / 40).astype(np.float32), False)]
    with microphone(16_000, "usb") as blocks:
        samples = next(blocks)
    assert sounddevice.asked["samplerate"] == 48_000
    assert 15_000 < len(samples) <= 16_000
    assert np.allclose(samples[1_000:9_000], np.sin(np.arange(1_000, 9_000) * 3 / 40), atol=1e-3)


def test_samples_that_were_lost_are_told(sounddevice):
    sounddevice.heard = [(ramp(10), True)]
    told = []
    with microphone(16_000, "1", lambda: told.append("lost")) as blocks:
        next(blocks)
    assert told == ["lost"]


@pytest.mark.parametrize(
    ("name", "message"), [("Microphone", "2 microphones are called"), ("Speakers", "no microphones are called")]
)
def test_a_name_that_is_not_one_microphones_is_refused_with_those_there_are(sounddevice, name, message):
    with (
        pytest.raises(ValueError, match=f"{message}.*1 Built-in Microphone, 2 USB Microphone"),
        microphone(16_000, name),
    ):
        pass


def test_a_machine_without_a_microphone_is_one_sentence(sounddevice):
    sounddevice.query_devices = lambda: DEVICES[:1]
    with pytest.raises(ValueError, match="no microphone that PortAudio knows"), microphone(16_000):
        pass


def test_a_system_that_chooses_none_asks_for_a_name(sounddevice):
    sounddevice.default.device = [-1, 0]
    with pytest.raises(ValueError, match=r"names no microphone.*1 Built-in"), microphone(16_000):
        pass


def test_a_microphone_that_cannot_be_opened_is_one_sentence(sounddevice):
    def refused(**_):
        raise PortAudioError("Device unavailable")

    sounddevice.InputStream = refused
    with (
        pytest.raises(ValueError, match="Built-in Microphone cannot be opened: Device unavailable"),
        microphone(16_000),
    ):
        pass


def test_a_microphone_that_gives_nothing_is_one_sentence(sounddevice, monkeypatch):
    monkeypatch.setattr(room, "SILENT_SECONDS", 0.01)
    with microphone(16_000) as blocks, pytest.raises(ValueError, match=r"has given nothing for 0\.01 s"):
        next(blocks)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ValueError, match=r'pip install "sottovoce\[listen\]"'), microphone(16_000):
        pass


def test_without_portaudio_the_systems_package_is_named(monkeypatch, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(ValueError, match=r"PortAudio library not found.*libportaudio2"), microphone(16_000):
        pass
