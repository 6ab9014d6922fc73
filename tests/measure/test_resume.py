"""A run that was stopped goes on, transcribes only what is missing, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

import sottovoce
from sottovoce.files.atomic import alone_in
from tests.measure.manifests import rows_of

KILLED = """
import os, signal, sys
import sottovoce

def track(items, total, what):
    for i, item in enumerate(items):
        if i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

target, data, output = sys.argv[1:]
sottovoce.evaluate(target, data=data, output=output, batch_size=1, track=track)
"""


class StoppedError(Exception):
    pass


def stop_after(batches):
    def track(items, total, what):
        for i, item in enumerate(items):
            if i == batches:
                raise StoppedError
            yield item

    return track


def content(evaluation):
    """All that a run says, without what depends on the clock."""
    rows = sorted((replace(row, decode_seconds=0) for row in evaluation.utterances), key=repr)
    return rows, [replace(score, rtfx=0) for score in evaluation.scores]


def kept(folder):
    """The ids of the whole lines in a run's folder, in order."""
    return [row["id"] for file in sorted(folder.glob("transcripts/*/*.jsonl")) for row in rows_of(file)]


def test_a_run_stopped_between_batches_goes_on(toy, heard, decoded, tmp_path):
    undisturbed = sottovoce.evaluate(toy("whisper"), data=heard)
    decoded.clear()
    with pytest.raises(StoppedError):
        sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path, batch_size=2, track=stop_after(2))
    assert (decoded, len(kept(tmp_path))) == ([2, 2], 4)
    with pytest.raises(ValueError, match=r"transcribed 4 of the 7 utterances of test; run evaluate again to finish"):
        sottovoce.rescore(tmp_path)
    decoded.clear()
    result = sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path, batch_size=2)
    assert decoded == [2, 1]
    assert content(result) == content(undisturbed)


def test_a_run_stopped_at_its_second_target_does_not_hear_the_first_again(rough, toy, heard, decoded, tmp_path):
    undisturbed = sottovoce.evaluate([rough, toy("whisper")], data=heard)
    sottovoce.evaluate(rough, data=heard, output=tmp_path)
    with pytest.raises(StoppedError):
        sottovoce.evaluate([rough, toy("whisper")], data=heard, output=tmp_path, batch_size=3, track=stop_after(1))
    decoded.clear()
    result = sottovoce.evaluate([rough, toy("whisper")], data=heard, output=tmp_path)
    assert decoded == [4]
    assert content(result) == content(undisturbed)


def test_a_finished_run_opens_no_model(rough, toy, heard, run, monkeypatch):
    monkeypatch.setattr("sottovoce.recognition.target.Target.open", lambda self: pytest.fail(f"{self.name} was opened"))
    again = sottovoce.evaluate([rough, toy("whisper")], data=heard, output=run)
    assert content(again) == content(sottovoce.rescore(run))


@pytest.mark.slow
def test_a_killed_process_loses_at_most_the_batch_in_hand(toy, heard, decoded, tmp_path):
    undisturbed = sottovoce.evaluate(toy("whisper"), data=heard)
    output = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, str(toy("whisper")), str(heard), str(output)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, check=False, env=one_thread)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = kept(output)
    assert len(before) == 3
    decoded.clear()
    result = sottovoce.evaluate(toy("whisper"), data=heard, output=output)
    assert decoded == [4]
    assert kept(output)[:3] == before
    assert content(result) == content(undisturbed)


@pytest.mark.parametrize("lost", [1, 30])
def test_a_half_written_last_line_is_transcribed_again(lost, toy, heard, decoded, tmp_path):
    undisturbed = sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path)
    [file] = tmp_path.glob("transcripts/*/*.jsonl")
    file.write_bytes(file.read_bytes()[:-lost])
    decoded.clear()
    result = sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path)
    assert decoded == [1]
    assert content(result) == content(undisturbed)


def test_a_line_that_is_no_transcript_is_named(toy, heard, tmp_path):
    sottovoce.evaluate(toy("whisper"), data=heard, limit=2, output=tmp_path)
    [file] = tmp_path.glob("transcripts/*/*.jsonl")
    file.write_text(file.read_text() + '{"id": "more"}\n')
    with pytest.raises(ValueError, match=r"test-\w+\.jsonl, line 3 is not a transcript .*remove the file"):
        sottovoce.rescore(tmp_path)


def test_a_second_process_in_the_same_folder_is_refused_and_the_first_is_left_alone(toy, heard, tmp_path):
    with alone_in(tmp_path / "run"), pytest.raises(ValueError, match=r"another process is working in .*run; wait"):
        sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path / "run")
    assert sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path / "run").scores


def test_utterances_that_were_heard_twice_are_told(toy, heard, tmp_path):
    sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path)
    [file] = tmp_path.glob("transcripts/*/*.jsonl")
    lines = file.read_text()
    file.write_text(lines + lines.splitlines(True)[0])
    with pytest.raises(
        ValueError, match=r"holds 8 transcripts of 7 utterances, so some were transcribed twice; remove it"
    ):
        sottovoce.rescore(tmp_path)
