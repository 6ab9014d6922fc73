import os
import signal
from contextlib import contextmanager

import pytest

import sottovoce
from sottovoce.built_in import built_in_set
from sottovoce.speech import audio, microphone
from sottovoce.speech.paced import short

CLIP = built_in_set("builtin:test") / "0002.ogg"


@pytest.fixture(scope="module")
def text():
    return sottovoce.load("builtin:moonshine").transcribe(CLIP).text


def test_a_file_is_written_as_it_is_transcribed(command, text, tmp_path):
    told = command("listen", "builtin:moonshine", "--from", CLIP, "--save", tmp_path / "said.txt")
    assert (told.code, told.out.split()) == (0, text.split())
    assert (tmp_path / "said.txt").read_text(encoding="utf-8") == told.out


@pytest.mark.slow
def test_a_file_at_the_pace_of_its_recording_tells_how_late_each_text_is(command, text):
    told = command("listen", "builtin:moonshine", "--from", CLIP, "--pace", "--latency")
    *words, seconds, unit = told.out.split()
    assert words == text.split()
    assert 0 < float(seconds) < 5
    assert unit == "s"


def test_ctrl_c_writes_what_was_said_before_it(command, monkeypatch, text):
    @contextmanager
    def heard(rate, name, lost):
        def blocks():
            yield from short([audio.read(CLIP, rate)], rate)
            os.kill(os.getpid(), signal.SIGINT)
            yield audio.read(CLIP, rate)[:100]
            raise AssertionError("it was stopped")

        yield blocks()

    monkeypatch.setattr(microphone, "microphone", heard)
    before = signal.getsignal(signal.SIGINT)
    told = command("listen", "builtin:moonshine")
    assert (told.code, told.out.split()) == (0, text.split())
    assert "Ctrl-C ends" in told.err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_microphone_that_breaks_loses_nothing(command, monkeypatch, text):
    @contextmanager
    def heard(rate, name, lost):
        def blocks():
            yield audio.read(CLIP, rate)
            raise ValueError("the microphone has given nothing for 5 s")

        yield blocks()

    monkeypatch.setattr(microphone, "microphone", heard)
    told = command("listen", "builtin:moonshine")
    assert (told.code, told.out.split()) == (2, text.split())
    assert "given nothing" in told.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pace"], "--pace is of a file"),
        (["--from", CLIP, "--device-name", "usb"], "leave one out"),
        (["--from", CLIP, "--latency"], "--pace would give it one"),
        (["--from", CLIP, "--save", CLIP], "exists; name a new file"),
        (["--from", "missing.wav"], "there is no audio file missing.wav"),
        (["--from", CLIP, "--silence", "0.1"], "at least 0.3"),
    ],
)
def test_what_cannot_be_is_one_sentence(command, words, message):
    told = command("listen", "builtin:whisper", *words)
    assert told.code == 2
    assert message in " ".join(told.err.split())


def test_what_is_no_audio_leaves_no_file_behind(command, tmp_path):
    told = command("listen", "builtin:whisper", "--from", tmp_path / "none.wav", "--save", tmp_path / "said.txt")
    assert told.code == 2
    assert not (tmp_path / "said.txt").exists()
