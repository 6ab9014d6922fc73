import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sottovoce.transcribing import journal as journal_module
from sottovoce.transcribing.job import StoppedError
from sottovoce.transcribing.journal import read_journal
from tests.transcribing.conftest import Fake, do, files


def journal_of(job, name):
    return job.output / ".sottovoce" / f"{name}.jsonl"


def test_recordings_become_transcripts_in_the_structure_of_their_folder(job, fake, record, tmp_path):
    record("a.wav"), record("b/c.wav", 1.0)
    summary = do(job, fake, tmp_path / "in")
    assert list(files(job.output)) == ["a.json", "a.txt", "b/c.json", "b/c.txt"]
    assert (job.output / "a.txt").read_text() == "n10 n20\nn30 n40\nn50 n60\nn70 n70\n"
    first, second = summary.recordings
    assert (first.seconds, first.speech, first.dropped, first.words, first.guards) == (3.5, 3.5, 0, 8, {"loops": 4})
    assert (second.state, second.outputs) == (
        "done",
        tuple(str(job.output / f"b/c.{name}") for name in ("txt", "json")),
    )
    assert summary.bytes_not_uploaded == 36_000
    found = json.loads((job.output / "a.json").read_text())
    assert found["summary"] == {"seconds": 3.5, "speech": 3.5, "dropped": 0, "words": 8, "guards": {"loops": 4}}
    assert (found["language"], found["model"], found["segments"][1]["words"][0]["word"]) == ("en", "m", "n30")


def test_a_second_run_transcribes_nothing_and_opens_no_model(job, fake, record, tmp_path):
    record("a.wav")
    first = do(job, fake, tmp_path / "in").recordings[0]
    before = files(job.output)
    again = do(job, fake, tmp_path / "in").recordings[0]
    assert (fake.opened, again.state, files(job.output)) == (1, "earlier", before)
    assert again == replace(first, state="earlier", wall=again.wall)


def test_another_format_is_written_from_the_journal(job, fake, record, tmp_path):
    record("a.wav")
    do(job, fake, tmp_path / "in")
    do(replace(job, formats=("srt",)), fake, tmp_path / "in")
    assert (fake.opened, list(files(job.output))) == (1, ["a.json", "a.srt", "a.txt"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_job_that_was_killed_goes_on_where_it_was_and_writes_the_same_bytes(job, record, tmp_path, data):
    record("a.wav", 5.3), record("b.wav", 2.0)
    if not job.output.exists():
        do(job, Fake(), tmp_path / "in")
        tmp_path.joinpath("whole").write_bytes(journal_of(job, "a.wav").read_bytes())
    whole, expected = (tmp_path / "whole").read_bytes(), files(job.output)
    cut = data.draw(st.integers(0, len(whole)))
    journal_of(job, "a.wav").write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b'{"stre', b"\0\0\0"])))
    left = read_journal(journal_of(job, "a.wav"))
    for name in ("a.txt", "a.json"):
        if left is None or not left.writes or data.draw(st.booleans()):
            (job.output / name).unlink()
    fake = Fake()
    do(job, fake, tmp_path / "in")
    assert files(job.output) == expected
    assert fake.heard == pytest.approx(0.0 if left and left.finished else 5.3 - (left.reached(None) if left else 0.0))
    assert [one.stretch for one in read_journal(journal_of(job, "a.wav")).made] == [
        one.stretch for one in _read(tmp_path, whole).made
    ]


def _read(folder, content):
    (folder / "other.jsonl").write_bytes(content)
    return read_journal(folder / "other.jsonl")


def test_ctrl_c_leaves_what_is_finished(job, record, tmp_path):
    record("a.wav", 5.0)
    fake = Fake(kills={4: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        do(job, fake, tmp_path / "in")
    assert len(read_journal(journal_of(job, "a.wav")).made) == 3
    assert files(job.output) == {}
    again = Fake()
    do(job, again, tmp_path / "in")
    assert again.heard == pytest.approx(2.0)


def test_options_and_models_that_differ_are_refused_by_name(job, fake, record, tmp_path):
    record("a.wav")
    do(job, fake, tmp_path / "in")
    other = replace(job, options={"vad": False, "language": "de"}, digest="e" * 64, model="n")
    told = (
        "the model m (dddddddd, now n, eeeeeeee), language left out (now 'de'), vad on (now off); take the same, "
        "name another output, or --overwrite begins it anew"
    )
    with pytest.raises(ValueError, match=re.escape(told)):
        do(other, fake, tmp_path / "in")
    assert do(replace(other, overwrite=True), fake, tmp_path / "in").recordings[0].state == "done"
    assert do(replace(other, overwrite=True), fake, tmp_path / "in").recordings[0].state == "earlier"


def test_a_recording_that_was_replaced_is_refused_and_one_that_was_touched_is_not(job, fake, record, tmp_path):
    path = record("a.wav")
    do(job, fake, tmp_path / "in")
    os.utime(path, (1, 1))
    assert do(job, fake, tmp_path / "in").recordings[0].state == "earlier"
    record("a.wav", 4.0)
    with pytest.raises(ValueError, match="other content of the recording"):
        do(job, fake, tmp_path / "in")


def test_outputs_of_others_are_never_overwritten(job, fake, record, tmp_path):
    record("a.wav")
    job.output.mkdir()
    (job.output / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"a.txt is not what this job wrote; .*--overwrite"):
        do(job, fake, tmp_path / "in")
    assert (fake.opened, (job.output / "a.txt").read_text()) == (0, "mine")
    do(replace(job, overwrite=True), fake, tmp_path / "in")
    (job.output / "a.txt").write_text("corrected by hand")
    with pytest.raises(ValueError, match="is not what this job wrote"):
        do(job, fake, tmp_path / "in")


def test_one_broken_file_is_told_and_the_rest_goes_on(job, fake, record, tmp_path):
    record("a.wav"), record("c.wav")
    (tmp_path / "in" / "b.wav").write_bytes(b"no audio")
    told = []
    summary = do(job, fake, tmp_path / "in", report=told.append)
    assert [one.state for one in summary.recordings] == ["done", "failed", "done"]
    assert summary.recordings[1].error == f"{tmp_path / 'in' / 'b.wav'} is not audio"
    assert (summary.failed, tuple(told)) == (1, summary.recordings)
    assert "b.txt" not in files(job.output)


def test_what_the_model_refuses_names_the_file(job, record, tmp_path):
    path = record("a.wav")
    summary = do(job, Fake(kills={1: ValueError("too odd")}), path)
    assert summary.recordings[0].error == f"{path}: too odd"


def test_of_a_recording_that_breaks_off_what_is_there_is_written_and_it_failed(job, record, tmp_path):
    path = record("a.wav", 5.0)
    broken = Fake(breaks={"a.wav": 2.5})
    for _ in range(2):
        summary = do(job, broken, path)
        assert summary.recordings[0].error == f"{path} is cut short; copy it again"
        assert (job.output / "a.txt").read_text() == "n10 n20\nn30 n40\nn50 n50\n"
    record("a.wav", 4.0)  # copied again: the same command takes it
    assert do(job, Fake(), path).recordings[0].state == "done"
    assert (job.output / "a.txt").read_text() == "n10 n20\nn30 n40\nn50 n60\nn70 n80\n"


def test_a_break_that_was_the_disks_goes_on_at_the_last_whole_stretch(job, record):
    path = record("a.wav", 5.0)
    do(job, Fake(breaks={"a.wav": 2.5}), path)
    fake = Fake()
    assert do(job, fake, path).recordings[0].state == "done"
    assert fake.heard == pytest.approx(3.0)
    assert (job.output / "a.txt").read_text().count("\n") == 5


def test_a_full_disk_is_one_sentence_and_the_same_job_goes_on(job, fake, record, monkeypatch):
    path = record("a.wav")
    full = iter([None, None, OSError(errno.ENOSPC, "No space left on device")])

    def fsync(descriptor):
        if error := next(full, None):
            os.truncate(journal_of(job, "a.wav"), journal_of(job, "a.wav").stat().st_size - 9)
            raise error

    monkeypatch.setattr(journal_module.os, "fsync", fsync)
    with pytest.raises(StoppedError, match=r"^output .*out: the disk is full; what is finished is kept, and the same"):
        do(job, fake, path)
    assert len(read_journal(journal_of(job, "a.wav")).made) == 2
    again = Fake()
    do(job, again, path)
    assert again.heard == pytest.approx(1.5)


def test_each_channel_is_a_speaker(job, fake, record):
    path = record("a.wav", 2.0, channels=2)
    split = replace(job, split=True, formats=("txt", "json"))
    summary = do(split, fake, path)
    assert (job.output / "a.txt").read_text() == "1: n10 n20\n2: n20 n40\n1: n30 n40\n2: n60 n80\n"
    found = json.loads((job.output / "a.json").read_text())
    assert [segment["channel"] for segment in found["segments"]] == [1, 2, 1, 2]
    assert (summary.recordings[0].seconds, summary.recordings[0].speech) == (2.0, 4.0)


def test_a_job_of_channels_that_was_killed_goes_on_in_its_channel(job, record):
    path = record("a.wav", 3.0, channels=2)
    split = replace(job, split=True)
    with pytest.raises(KeyboardInterrupt):
        do(split, Fake(kills={5: KeyboardInterrupt()}), path)
    fake = Fake()
    do(split, fake, path)
    assert fake.heard == pytest.approx(2.0)
    assert (job.output / "a.txt").read_text().count("2: ") == 3


def test_much_that_is_left_out_and_much_speech_without_text_are_noted(job, fake, record, monkeypatch):
    path = record("a.wav", 31.0, silent=True)
    [note] = do(job, fake, path).recordings[0].notes
    assert note == f"{path}: 31 of 31 s were left out as no speech; try --no-vad"
    monkeypatch.setattr(
        Fake, "_stretch", lambda self, samples, start: journal_module.Stretch(start, start + 1, 1.0, ())
    )
    [note] = do(replace(job, overwrite=True, options={"vad": False}), fake, path).recordings[0].notes
    assert note == f"{path}: 31 s of speech gave 0 characters; listen to it"


def test_progress_is_told_in_seconds_from_where_it_goes_on(job, record):
    path = record("a.wav", 4.0)
    with pytest.raises(KeyboardInterrupt):
        do(job, Fake(kills={3: KeyboardInterrupt()}), path)
    told = []

    def follow(stretches, what, seconds, start):
        told.append((what, seconds, start))
        return iter(stretches)

    do(job, Fake(), path, follow=follow)
    assert told == [("a.wav", 4.0, 2.0)]


def test_a_journal_that_is_none_or_newer_is_refused(job, fake, record):
    path = record("a.wav")
    journal_of(job, "a.wav").parent.mkdir(parents=True)
    for content, message in ((b"hello\n", "is no journal"), (b'{"journal":2}\n', "has format 2")):
        journal_of(job, "a.wav").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            do(job, fake, path)


def test_a_recording_without_a_sample_has_empty_outputs(job, fake, record):
    path = record("a.wav", 0.0)
    assert do(job, fake, Path(path)).recordings[0].state == "done"
    assert (job.output / "a.txt").read_text() == ""
