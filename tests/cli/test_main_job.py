"""The main job as its user types it, in order, on toys; and the same from Python."""

import json

import pytest

import sottovoce
from sottovoce.artifact.folder import read_artifact
from tests import toys

RECIPE = "grid: {bits: 4, group_size: channel, symmetric: false}\nsteps: [gptq]\n"
SWEEP = """
models: [whisper]
data: [test.jsonl]
calibration: {data: calib.jsonl, limit: 4}
recipes:
  - grid: {bits: [8, 3], group_size: channel, symmetric: false}
    steps: [[rtn, gptq]]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model, speech and files of settings, and the user in it."""
    toys.write_whisper(tmp_path / "whisper")
    toys.write_speech(tmp_path, 4, seed=0, prefix="test")
    toys.write_speech(tmp_path, 6, seed=1, prefix="calib")
    (tmp_path / "my.yaml").write_text(RECIPE)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "quickstart.yaml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_main_job_from_the_command_line(place, command):
    def sottovoce_(line):
        told = command(*line.split())
        assert told.code == 0, told.err
        return told

    dense = (place / "whisper" / "model.safetensors").stat().st_size
    sottovoce_("compress whisper --recipe gptq-w4 --data calib.jsonl --limit 4 --output out/")
    artifact = read_artifact("out")
    assert artifact.bytes < dense / 3
    assert artifact.calibrations[0]["utterances"] == 4

    sottovoce_("compress whisper --recipe my.yaml --set grid.bits=3 --data calib.jsonl --output out3/")
    assert {entry.bits for entry in read_artifact("out3").entries if ".layers." in entry.name} == {3}

    told = sottovoce_("evaluate out/ whisper --data test.jsonl --output runs/x/ --json")
    small, base = json.loads(told.out)["scores"]
    assert (small["bytes"], base["bytes"]) == (artifact.bytes, dense)
    assert small["delta_wer"] == pytest.approx(small["wer"] - base["wer"])

    told = sottovoce_("compare runs/x/ --baseline whisper")
    assert f"WER {base['wer']:.2f} -> {small['wer']:.2f} %" in " ".join(told.out.split())

    told = sottovoce_("sweep sweeps/quickstart.yaml --output runs/quickstart/")
    assert "5 rows, 0 failed" in told.err

    told = sottovoce_("report runs/quickstart/ --output report/")
    table = (place / "report" / "table.md").read_text()
    assert all(word in table for word in ("rtn", "gptq", "8-bit", "3-bit"))
    assert "gptq" in told.out
    rows = json.loads((place / "report" / "table.json").read_text())["rows"]
    assert len(rows) == 5
    assert any(row["pareto"] for row in rows)
    assert (place / "report" / "table.csv").read_text().count("\n") == 6
    assert "tabular" in (place / "report" / "table.tex").read_text()

    told = sottovoce_("inspect out/")
    assert f"{artifact.bytes:,} bytes" in told.out
    assert "everything else" in told.out

    told = sottovoce_("methods gptq")
    assert "Frantar" in told.out
    assert "act_order" in told.out

    told = sottovoce_("rescore runs/x/ --normalizer whisper-basic")
    assert "whisper-basic" in told.out
    scores = [json.loads(path.read_text()) for path in (place / "runs/x/transcripts").glob("*/*.score.json")]
    assert [score["normalizer"] for score in scores] == ["whisper-basic"] * 2


def test_the_main_job_from_python(place):
    artifact = sottovoce.compress("whisper", recipe="gptq-w4", data="calib.jsonl", limit=4, output="out/")
    result = sottovoce.evaluate("out/", data="test.jsonl")
    assert result.wer == result.to_frame().wer[0]
    assert len(result.utterances) == 4
    assert artifact.bytes == result.scores[0].bytes
    model = sottovoce.load("out/")
    heard = {row.id: row.hypothesis for row in result.utterances}
    first = json.loads((place / "test.jsonl").read_text().splitlines()[0])
    assert model.transcribe_clips(first["audio"]) == heard[first["id"]]
