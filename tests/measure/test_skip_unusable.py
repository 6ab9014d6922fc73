"""`evaluate` and `sweep` with --skip-unusable: what is left out is counted, and the same for all targets of a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import sottovoce
from sottovoce.measure.run import read_run
from sottovoce.recognition.target import Target
from sottovoce.reporting.table import make_table
from sottovoce.sweeping.row import read_rows
from tests import toys
from tests.measure.manifests import rows_at_home, rows_of, write_rows
from tests.measure.test_resume import StoppedError, content, kept, stop_after

pytestmark = pytest.mark.filterwarnings("ignore:.*left out")


@pytest.fixture
def mixed(tmp_path, heard):
    """Four clips for all, one too long for the toy Whisper, one too short for Moonshine, one damaged."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", toys.tones(40_000, rng), 16_000)
    soundfile.write(tmp_path / "short.wav", toys.tones(800, rng), 16_000)
    soundfile.write(tmp_path / "damaged.flac", rng.uniform(-0.5, 0.5, 16_000), 16_000)
    whole = (tmp_path / "damaged.flac").read_bytes()
    (tmp_path / "damaged.flac").write_bytes(whole[: len(whole) // 2])
    bad = [{"audio": name, "text": "x", "id": name} for name in ("long.wav", "short.wav", "damaged.flac")]
    return write_rows(tmp_path / "mixed.jsonl", [*bad[:2], *rows_at_home(heard)[:4], bad[2]])


def unused(folder):
    [data] = read_run(folder).data
    return {clip.id for clip in data.left_out}


def test_by_default_all_are_named_and_nothing_is_written_or_opened(toy, mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(Target, "open", lambda self: pytest.fail(f"{self.name} was opened"))
    with pytest.raises(ValueError, match="2 of the 7 clips of mixed cannot be used") as caught:
        sottovoce.evaluate(toy("whisper"), data=mixed, output=tmp_path / "run")
    assert caught.match(r"long\.wav lasts 2\.50 s")
    assert caught.match(r"damaged\.flac is damaged")
    assert not (tmp_path / "run").exists()


def test_what_is_left_out_is_counted_in_the_score_in_run_json_and_in_the_transcripts(toy, mixed, tmp_path):
    with pytest.warns(UserWarning, match="2 of the 7 clips of mixed left out"):
        result = sottovoce.evaluate(toy("whisper"), data=mixed, output=tmp_path / "run", skip_unusable=True)
    [score] = result.scores
    assert (score.utterances, score.left_out) == (5, 2)
    [data] = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert data["utterances"] == 5
    assert [clip["id"] for clip in data["left_out"]] == ["long.wav", "damaged.flac"]
    assert all(clip["id"] in clip["audio"] and clip["id"] in clip["reason"] for clip in data["left_out"])
    assert len(kept(tmp_path / "run")) == 5
    assert content(sottovoce.rescore(tmp_path / "run")) == content(result)


def test_the_rest_is_scored_as_a_set_without_them(toy, mixed, heard, tmp_path):
    clean = write_rows(tmp_path / "clean" / "mixed.jsonl", rows_at_home(heard)[:4])
    wanted = sottovoce.evaluate(toy("moonshine"), data=clean, output=tmp_path / "a")
    both = [toy("moonshine"), toy("whisper")]
    result = sottovoce.evaluate(both, data=mixed, output=tmp_path / "b", skip_unusable=True)
    assert unused(tmp_path / "b") == {"long.wav", "short.wav", "damaged.flac"}
    [score] = [score for score in result.scores if score.target == str(toy("moonshine"))]
    assert replace(score, rtfx=0, left_out=0) == replace(wanted.scores[0], rtfx=0)
    assert read_run(tmp_path / "a").data[0].digest == read_run(tmp_path / "b").data[0].digest


def test_a_stopped_run_goes_on_without_reading_the_clips_again(toy, mixed, decoded, tmp_path, monkeypatch):
    asked = {"data": mixed, "output": tmp_path / "run", "skip_unusable": True}
    with pytest.raises(StoppedError):
        sottovoce.evaluate(toy("whisper"), **asked, batch_size=2, track=stop_after(1))
    decoded.clear()
    monkeypatch.setattr(
        "sottovoce.measure.same_clips.usable", lambda *_, **__: pytest.fail("all clips were read again")
    )
    result = sottovoce.evaluate(toy("whisper"), **asked, batch_size=2)
    assert decoded == [2, 1]
    assert result.scores[0].utterances == 5


def test_a_target_that_joins_is_scored_on_the_same_clips(rough, toy, mixed, tmp_path):
    asked = {"data": mixed, "output": tmp_path / "run", "skip_unusable": True}
    sottovoce.evaluate([toy("whisper"), toy("moonshine")], **asked)
    result = sottovoce.evaluate(rough, **asked)  # which could transcribe short.wav too
    assert (result.scores[0].utterances, result.scores[0].left_out) == (4, 3)
    assert result.scores[0].baseline == str(toy("whisper"))


def test_a_target_that_cannot_use_a_clip_of_the_run_is_refused_and_changes_nothing(toy, mixed, tmp_path):
    asked = {"data": mixed, "output": tmp_path / "run", "skip_unusable": True}
    sottovoce.evaluate(toy("whisper"), **asked)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=r"1 of the 5 clips of mixed that .*run is scored on cannot be used now"
    ) as told:
        sottovoce.evaluate(toy("moonshine"), **asked)
    assert told.match(r"evaluate all targets together, into a new folder:\n.*short\.wav has 800 samples")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_run_that_left_clips_out_goes_on_only_when_they_may_be_left_out(toy, mixed, tmp_path):
    sottovoce.evaluate(toy("whisper"), data=mixed, output=tmp_path / "run", skip_unusable=True)
    with pytest.raises(ValueError, match="2 of the 7 clips of mixed cannot be used; --skip-unusable"):
        sottovoce.evaluate(toy("whisper"), data=mixed, output=tmp_path / "run")


def test_clips_that_can_be_used_again_stay_out_of_a_run_that_left_them_out(toy, mixed, tmp_path):
    asked = {"data": mixed, "output": tmp_path / "run", "skip_unusable": True}
    first = sottovoce.evaluate(toy("whisper"), **asked)
    soundfile.write(tmp_path / "damaged.flac", toys.tones(16_000, np.random.default_rng(1)), 16_000)
    assert content(sottovoce.evaluate(toy("whisper"), **asked)) == content(first)


def test_a_clip_that_was_used_and_is_damaged_now_is_told(toy, mixed, tmp_path):
    asked = {"data": mixed, "output": tmp_path / "run", "skip_unusable": True}
    sottovoce.evaluate(toy("whisper"), **asked)
    [row] = [row for row in rows_of(mixed) if row["id"] == "short.wav"]
    (mixed.parent / row["audio"]).write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of the 5 clips .* cannot be used now.*\n.*short\.wav is empty"):
        sottovoce.evaluate(toy("whisper"), **asked)


def test_an_older_run_left_nothing_out(toy, heard, tmp_path):
    sottovoce.evaluate(toy("whisper"), data=heard, limit=2, output=tmp_path)
    document = json.loads((tmp_path / "run.json").read_text())
    for data in document["data"]:
        assert data.pop("left_out") == []
    (tmp_path / "run.json").write_text(json.dumps(document))
    assert [data.left_out for data in read_run(tmp_path).data] == [()]


def test_rows_of_a_sweep_are_scored_on_what_all_its_models_can_use(toy, mixed, tmp_path):
    document = {
        "models": [str(toy("moonshine")), str(toy("whisper"))],
        "data": [str(mixed)],
        "calibration": {"data": str(mixed), "limit": 7},
        "skip_unusable": True,
        "recipes": ["rtn-w8"],
    }
    rows = sottovoce.sweep(document, output=tmp_path / "swept")
    assert [row.error for row in rows] == [None] * 4
    assert {(row.scores[0].utterances, row.scores[0].left_out) for row in rows} == {(4, 3)}
    assert any("4 utterances with" in note and "(3 of 7 clips left out)" in note for note in make_table(rows).notes)
    assert read_rows(tmp_path / "swept") == rows
    again = sottovoce.sweep({**document, "skip_unusable": False}, output=tmp_path / "swept", skip_unusable=True)
    assert again == rows


def test_each_model_of_a_sweep_is_calibrated_on_what_it_can_use(toy, mixed, heard, tmp_path):
    document = {
        "models": [str(toy("moonshine")), str(toy("whisper"))],
        "data": [str(write_rows(tmp_path / "other.jsonl", rows_at_home(heard)[4:]))],
        "calibration": {"data": str(mixed)},
        "recipes": [{"steps": [{"wanda": {"where": "*.layers.*"}}]}],
    }
    rows = sottovoce.sweep(document, output=tmp_path / "swept", skip_unusable=True)
    assert [row.error for row in rows] == [None] * 4
    records = [sottovoce.read_artifact(row.artifact).calibrations[0] for row in rows if row.compressed]
    assert [(set(record["ids"]) & {"long.wav", "short.wav"}, record["left_out"]) for record in records] == [
        ({"long.wav"}, 2),
        ({"short.wav"}, 2),
    ]


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_sweep_says_what_the_switch_may_be(toy, heard, value, tmp_path):
    document = {"models": [str(toy("whisper"))], "data": [str(heard)], "recipes": ["rtn-w8"], "skip_unusable": value}
    with pytest.raises(ValueError, match=r"skip_unusable is .*; true or false would work"):
        sottovoce.sweep(document, output=tmp_path)
