import json
import signal

import numpy as np
import pytest
import soundfile
from rich.console import Console

from sottovoce.cli import console as console_module
from sottovoce.cli import following
from sottovoce.cli.following import follow
from sottovoce.cli.transcripts_table import totals
from sottovoce.recognition.segment import Stretch
from sottovoce.speech.datasets import read_corpus
from sottovoce.transcribing import verb
from sottovoce.transcribing.summary import RecordingSummary, Summary
from tests.transcribing.conftest import RATE, Fake


@pytest.fixture
def clips(tmp_path):
    """A folder with two clips of the built-in speech."""
    (tmp_path / "in").mkdir()
    found = [utterance.audio for utterance in read_corpus("builtin:test").utterances[:2]]
    for path in found:
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "in"


@pytest.fixture
def fake(monkeypatch):
    """What transcribes in the place of a model."""
    made = Fake()
    monkeypatch.setattr(verb, "_ears", lambda *_: made.open())
    return made


@pytest.fixture
def noise(tmp_path):
    """A folder with a recording that the fake takes."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", np.full(3 * RATE, 0.25), RATE)
    return tmp_path / "in"


def test_a_folder_becomes_files_and_a_table_and_a_second_run_has_nothing_to_do(command, clips, tmp_path):
    words = ("transcribe", "builtin:whisper", clips, "-o", tmp_path / "out", "--format", "txt, vtt,json", "--words")
    told = command(*words)
    assert told.code == 0, told.err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    stems = sorted(path.stem for path in clips.iterdir())
    assert names == [".sottovoce", *(f"{stem}.{kind}" for stem in stems for kind in ("json", "txt", "vtt"))]
    document = json.loads((tmp_path / "out" / f"{stems[0]}.json").read_text())
    assert (tmp_path / "out" / f"{stems[0]}.txt").read_text().split() == document["text"].split()
    assert document["segments"][0]["words"]
    assert "2 recordings (2 done): " in told.out
    assert "MB not uploaded (Opus at 64 kbit/s)" in " ".join(told.out.split())
    assert told.err.count("times real time") == 2
    again = command(*words, "--json")
    found = json.loads(again.out)
    assert (again.code, again.err, found["earlier"], found["done"]) == (0, "", 2, 0)
    assert found["recordings"][0]["outputs"][0].endswith(".txt")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "doc"), "unknown format 'doc'"),
        (("--channels", "left"), "unknown value of channels 'left'"),
        (("--method", "chunk"), "unknown value of --method 'chunk'; did you mean chunked"),
        (("--beam", "0"), "beam=0"),
        (("--condition",), "method sequential would work"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence_with_nothing_left_behind(command, clips, tmp_path, words, message):
    told = command("transcribe", "builtin:whisper", clips, "-o", tmp_path / "out", *words)
    assert told.code == 2
    assert message in told.err
    assert not (tmp_path / "out").exists()


def test_only_folders_are_watched(command, noise, tmp_path):
    told = command("transcribe", "builtin:whisper", noise / "a.wav", "-o", tmp_path / "out", "--watch")
    assert (told.code, told.err.strip().endswith("is a file; watch a folder")) == (2, True)


def test_a_broken_recording_is_told_and_the_exit_code_is_1(command, fake, noise, tmp_path):
    (noise / "b.wav").write_bytes(b"no audio")
    told = command("transcribe", "builtin:whisper", noise, "-o", tmp_path / "out")
    assert told.code == 1
    assert f"failed: {noise / 'b.wav'} is not audio" in told.err
    assert "2 recordings (1 done, 1 failed)" in told.out
    assert (tmp_path / "out" / "a.txt").is_file()


def test_ctrl_c_says_that_the_same_command_goes_on(command, fake, noise, tmp_path):
    fake.kills = {2: KeyboardInterrupt()}
    told = command("transcribe", "builtin:whisper", noise, "-o", tmp_path / "out")
    assert told.code == 128 + signal.SIGINT
    assert "the same command goes on from there" in " ".join(told.err.split())
    told = command("transcribe", "builtin:whisper", noise, "-o", tmp_path / "out")
    assert (told.code, fake.heard) == (0, pytest.approx(3 + 2, abs=1.5))


def test_a_disk_that_is_full_is_one_sentence_and_exit_code_1(command, fake, noise, tmp_path):
    fake.kills = {2: OSError(28, "No space left on device")}
    told = command("transcribe", "builtin:whisper", noise, "-o", tmp_path / "out")
    assert told.code == 1
    assert told.err.count("\n") == 1
    assert "the disk is full; what is finished is kept" in " ".join(told.err.split())


def stretches(count):
    return (Stretch(float(i), i + 1.0, 1.0, ()) for i in range(count))


@pytest.mark.parametrize("seconds", [4.0, None])
def test_a_terminal_has_a_bar_for_a_recording(seconds, monkeypatch):
    drawn = Console(force_terminal=True, width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    monkeypatch.setattr(console_module, "_errors", drawn)
    assert len(list(follow(stretches(4), "call [1].wav", seconds, 0.0))) == 4
    text = drawn.export_text()
    assert "call [1].wav" in text
    assert "100%" in text


@pytest.mark.parametrize(
    ("seconds", "told"), [(8.0, "50 % of 8 s, 1.0 times real time, 0:00:04 left"), (None, "4 s, ")]
)
def test_where_nobody_watches_there_is_a_line_each_minute(seconds, told, monkeypatch, capsys):
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr(following.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(following, "LINE_SECONDS", 3)
    lines = []
    monkeypatch.setattr(following, "say", lines.append)
    list(follow(stretches(6), "a.wav", seconds, 0.0))
    assert lines[0].startswith("a.wav: ")
    assert lines[-1].startswith("a.wav: 6.0 s of audio in ")
    assert len(lines) > 1


def test_the_totals_of_no_recording_are_a_line_too():
    assert totals(Summary("out", ())).startswith("0 recordings (none): 0.0 s")
    one = RecordingSummary("a.wav", "a.wav", "done", 3600.0, 3000.0, 600.0, 9000, wall=360.0)
    assert totals(Summary("out", (one,))) == (
        "1 recording (1 done): 3,600.0 s, 3,000.0 s of speech, 9,000 words, RTFx 10.0; 28.80 MB not uploaded "
        "(Opus at 64 kbit/s)"
    )
