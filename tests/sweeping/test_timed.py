"""Rows with their time: on an engine, beside the uncompressed model, or with the reason for none."""

import json
import shutil

import pytest

import sottovoce
from sottovoce.exporting.verb import SelfTestError
from sottovoce.recognition.target import find_target
from sottovoce.reporting.table import make_table
from sottovoce.sweeping.sweep_file import read_sweep
from sottovoce.sweeping.timed import timed
from sottovoce.targets.agreement import SelfTest
from sottovoce.targets.exported import Exported, Source
from sottovoce.timing.bench import Bench, Speed
from sottovoce.weights.cost import Workload


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_row_says_how_long_it_takes_beside_the_uncompressed_model_or_why_not(engine, toy, heard, tmp_path):
    steps = [["rtn"], ["rtn", {"kv_cache": {"bits": 8}}]]
    document = {
        "models": [str(toy("whisper"))],
        "data": [str(heard)],
        "workload": {"seconds": 1, "tokens": 4},
        "time": engine,
        "recipes": [{"steps": chosen} for chosen in steps],
    }
    plain, rounded, cached = sottovoce.sweep(document, output=tmp_path / "run")
    for row in (plain, rounded):
        assert row.timing["engine"] == engine
        assert row.timing["milliseconds"] > 0
    assert plain.timing["ratio"] == [1.0, 1.0, 1.0]
    median, least, most = rounded.timing["ratio"]
    assert 0 < least <= median <= most
    titles = [column.title for column in make_table([plain, rounded, cached]).columns]
    assert "ms" in titles
    notes = " ".join(make_table([plain, rounded, cached]).notes)
    assert f"ms: one utterance of 1 s of audio, 4 tokens ({engine}, 1 thread)" in notes
    if "reason" in cached.timing:
        assert f"Not timed: {' '.join(cached.timing['reason'].split())}" in notes
    else:
        assert cached.timing["milliseconds"] > 0
    kept = [path.name for path in (tmp_path / "run").iterdir()]
    assert ("timed" in kept) == (engine == "onnx")
    assert len(json.loads((tmp_path / "run" / "order.json").read_text())) == 3


def test_a_time_is_the_encoder_the_first_token_and_those_that_follow_on_one_thread(toy, monkeypatch, tmp_path):
    asked = []

    def fake(targets, *, threads, seconds, tokens, rounds):
        asked.append((targets, list(threads), seconds, tokens))
        speed = Speed("", 1, 0, 0.0, 70.0, 3.0, 2.0, 1.0, (0.5, 0.4, 0.6), 0.0, 0, 0)
        return Bench(seconds, tokens, rounds, (speed,) * len(targets))

    monkeypatch.setattr("sottovoce.sweeping.timed.bench", fake)
    model = find_target(toy("whisper"))
    found = timed("torch", model, tmp_path / "artifact", Workload(1, 4), tmp_path / "timed")
    assert found == {"engine": "torch", "threads": 1, "milliseconds": 79.0, "ratio": [0.5, 0.4, 0.6]}
    assert timed("torch", model, None, Workload(1, 4), tmp_path / "timed")["milliseconds"] == 79.0
    assert asked == [([model.name, str(tmp_path / "artifact")], [1], 1, 4), ([model.name], [1], 1, 4)]


def test_an_export_that_failed_in_one_row_is_not_timed_in_the_next(toy, monkeypatch, tmp_path):
    model, asked = find_target(toy("whisper")), []

    def failing(target, *, to, output):
        asked.append(output)
        shutil.copytree(model.checkpoint.folder, output, ignore=shutil.ignore_patterns("*.safetensors"))
        failed = SelfTest((), 3, 40, 40, 5)
        made = Exported(output, to, model.base, Source(target, model.digest, (), ()), (), {}, {}, failed).write()
        raise SelfTestError("the export failed its self-test", made)

    monkeypatch.setattr("sottovoce.sweeping.timed.export", failing)
    monkeypatch.setattr("sottovoce.sweeping.timed.bench", lambda *_, **__: pytest.fail("it was timed"))
    for _ in range(2):
        found = timed("onnx", model, None, Workload(1, 4), tmp_path / "timed")
        assert "failed its self-test" in found["reason"]
        assert "milliseconds" not in found
    assert len(asked) == 1


def test_time_is_asked_of_an_engine_that_there_is():
    document = {"models": ["m"], "data": ["d"], "recipes": ["rtn-w8"], "time": "onnxx"}
    with pytest.raises(ValueError, match=r"unknown engine in time of sweep 'onnxx'; did you mean onnx"):
        read_sweep(document)
