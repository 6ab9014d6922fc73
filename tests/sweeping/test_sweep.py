import errno
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import soundfile
import yaml

import sottovoce
from sottovoce.files.atomic import alone_in
from sottovoce.sweeping import sweep as sweep_module
from sottovoce.sweeping.row import read_rows
from sottovoce.training import recover as recover_module
from sottovoce.weights.cost import Workload
from tests.measure.manifests import rows_at_home, rows_of, write_rows

RECIPES = [
    {"grid": {"bits": [8, 3]}, "steps": ["rtn"]},
    {"steps": [{"wanda": {"where": "*.layers.*"}}]},
]


@pytest.fixture(scope="module")
def document(toy, heard, speech):
    """Two toys, each as it is, at 8 and 3 bits, and under Wanda: eight rows."""
    return {
        "models": [str(toy("whisper")), str(toy("moonshine"))],
        "data": [str(heard)],
        "calibration": {"data": str(speech), "limit": 2},
        "normalizer": "whisper-basic",
        "workload": {"seconds": 1, "tokens": 8},
        "recipes": RECIPES,
    }


@pytest.fixture(scope="module")
def swept(document, tmp_path_factory):
    """The folder of the whole sweep and its rows, undisturbed."""
    folder = tmp_path_factory.mktemp("swept")
    return folder, sottovoce.sweep(document, output=folder)


@pytest.fixture
def compressed(monkeypatch):
    """The outputs of every call of compress from now on."""
    calls = []
    compress = sweep_module.compress

    def counted(*words, **named):
        calls.append(named["output"].name)
        return compress(*words, **named)

    monkeypatch.setattr(sweep_module, "compress", counted)
    return calls


def test_a_row_tells_what_is_left_of_the_model_and_one_that_is_refused_what_was_asked(document, toy, tmp_path):
    recipes = [{"steps": [{"drop_layers": {"encoder": [[1], [0, 1]]}}]}]
    rows = sottovoce.sweep({**document, "models": [str(toy("whisper"))], "recipes": recipes}, output=tmp_path)
    assert [row.structure for row in rows] == ["-", "encoder 1 of 2 blocks", "drop_layers(encoder=[0, 1])"]
    assert [row.error is None for row in rows] == [True, True, False]
    assert {row.sparsity for row in rows} == {"-"}


def measured(row):
    """What a row says, without what depends on the clock and on the folder."""
    scores = tuple(replace(score, target="", rtfx=0) for score in row.scores)
    return replace(row, scores=scores, compress_seconds=None, artifact=None)


def without_wanda(document, **more):
    return {**document, "models": document["models"][:1], "recipes": RECIPES[:1], **more}


# --- rows -----------------------------------------------------------------------------------------


def test_every_model_has_a_row_as_it_is_and_one_for_each_recipe(swept, document):
    folder, rows = swept
    whisper, moonshine = document["models"]
    words = ["-", "rtn 8-bit channel", "rtn 3-bit channel", "-"]
    assert [(row.model, row.quantization) for row in rows] == [(m, w) for m in (whisper, moonshine) for w in words]
    assert [row.sparsity for row in rows] == ["-", "-", "-", "wanda 50 %"] * 2
    assert [row.calibration for row in rows] == ["-", "-", "-", "2 of calibration"] * 2
    assert [row.compressed for row in rows] == [False, True, True, True] * 2
    assert not [row.error for row in rows if row.error]
    assert read_rows(folder) == rows


def test_a_row_says_what_compressing_evaluating_and_inspecting_say(swept, document, tmp_path):
    row = swept[1][2]
    model = document["models"][0]
    recipe = {"grid": {"bits": 3}, "steps": ["rtn"]}
    artifact = sottovoce.compress(model, recipe=recipe, output=tmp_path / "by-hand")
    evaluation = sottovoce.evaluate(
        [artifact.folder, model], data=document["data"][0], normalizer=document["normalizer"]
    )
    [score] = row.scores
    assert replace(score, target="", rtfx=0) == replace(evaluation.scores[0], target="", rtfx=0)
    assert score.delta_wer is not None
    seen = sottovoce.inspect(artifact.folder, workload=Workload(seconds=1, tokens=8))
    assert (row.bytes, row.bits_per_weight, row.nonzeros) == (seen.bytes, seen.bits_per_weight, seen.nonzeros)
    assert (row.macs, row.bit_operations) == (seen.cost.macs, seen.cost.bit_operations)
    assert row.memory_bytes == seen.cost.memory_bytes
    assert row.workload == {"seconds": 1, "tokens": 8, "beam": 1, "activation_bits": 32}


def test_a_second_run_computes_nothing(swept, document, compressed, decoded):
    folder, rows = swept
    files = {path: path.stat().st_mtime_ns for path in (folder / "rows").iterdir()}
    assert sottovoce.sweep(document, output=folder) == rows
    assert compressed == decoded == []
    assert files == {path: path.stat().st_mtime_ns for path in (folder / "rows").iterdir()}


def test_a_recipe_that_is_added_is_one_row_more_for_each_model(document, compressed, decoded, tmp_path):
    few = without_wanda(document)
    before = sottovoce.sweep(few, output=tmp_path)
    compressed.clear()
    more = {**few, "recipes": [{"steps": [{"rtn": {"bits": 4}}]}, *RECIPES[:1]]}
    after = sottovoce.sweep(more, output=tmp_path)
    assert after[0] == before[0]
    assert after[2:] == before[1:]
    assert compressed == [Path(after[1].artifact).name]


def test_a_model_named_twice_has_its_rows_once(document, tmp_path):
    model = document["models"][0]
    rows = sottovoce.sweep(without_wanda(document, models=[model, model, f"{model}/"]), output=tmp_path)
    assert len(rows) == len({row.key for row in rows}) == 3


def test_calibration_audio_that_changed_at_the_same_length_is_another_row(document, tmp_path):
    calibration = document["calibration"]["data"]
    rows = rows_at_home(calibration)[:2]
    clip = tmp_path / "own.wav"
    samples, rate = soundfile.read(rows[0]["audio"])
    soundfile.write(clip, samples, rate)
    own = write_rows(tmp_path / "own.jsonl", [{**rows[0], "audio": str(clip)}, rows[1]])
    plan = {**document, "models": document["models"][:1], "recipes": RECIPES[1:], "calibration": {"data": str(own)}}
    before = sottovoce.sweep(plan, output=tmp_path / "run")
    soundfile.write(clip, samples[::-1], rate)
    after = sottovoce.sweep(plan, output=tmp_path / "run")
    assert before[0].key == after[0].key
    assert before[1].key != after[1].key


# --- stopped --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_sweep_computes_only_the_rows_that_are_missing(swept, document, compressed, tmp_path):
    file, output = tmp_path / "sweep.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "sottovoce", "sweep", str(file), "--output", str(output)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 120
        while not list(output.glob("rows/[!.]*.json")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    there = {path.stem: path.read_bytes() for path in output.glob("rows/[!.]*.json")}
    assert 1 <= len(there) < 8

    asked = []

    def track(items, total, what):
        for item in items:
            if what == "rows":  # a compression tracks its own work
                asked.append(item.key)
            yield item

    rows = sottovoce.sweep(file, output=output, track=track)
    assert len(asked) + len(there) == 8
    assert set(asked).isdisjoint(there)
    assert set(compressed) <= {Path(row.artifact).name for row in rows if row.key in asked and row.artifact}
    assert {path.stem: path.read_bytes() for path in output.glob("rows/*.json") if path.stem in there} == there
    assert list(map(measured, rows)) == list(map(measured, swept[1]))


def test_without_keeping_artifacts_none_stays_and_the_resume_still_works(document, swept, compressed, tmp_path):
    plan = without_wanda(document, keep_artifacts=False)
    rows = sottovoce.sweep(plan, output=tmp_path)
    assert not list((tmp_path / "artifacts").iterdir())
    assert [row.artifact for row in rows] == [None] * 3
    assert list(map(measured, rows)) == list(map(measured, swept[1][:3]))
    made = list(compressed)
    compressed.clear()
    assert sottovoce.sweep(plan, output=tmp_path) == rows
    assert compressed == []
    (tmp_path / "rows" / f"{rows[2].key}.json").unlink()  # killed after the artifact went, before the row came
    again = sottovoce.sweep(plan, output=tmp_path)
    assert compressed == [made[1]]
    assert list(map(measured, again)) == list(map(measured, rows))


def test_kept_artifacts_are_where_their_rows_say(swept):
    for row in swept[1]:
        assert (row.artifact is not None) == row.compressed
        if row.artifact:
            assert sottovoce.read_artifact(row.artifact).bytes == row.bytes


# --- failing --------------------------------------------------------------------------------------


def test_a_second_sweep_in_the_same_folder_is_refused(document, tmp_path):
    with alone_in(tmp_path), pytest.raises(ValueError, match="another process is working"):
        sottovoce.sweep(document, output=tmp_path)


def test_a_row_that_fails_says_why_and_the_others_go_on(document, tmp_path):
    grid = {"bits": 8, "group_size": 16, "frontend_bits": None}  # the inputs of Moonshine's first convolution are 127
    rows = sottovoce.sweep({**document, "recipes": [{"grid": grid, "steps": ["rtn"]}, RECIPES[0]]}, output=tmp_path)
    failed = [row for row in rows if row.error]
    assert len(rows) == 8
    assert [(row.model, row.quantization) for row in failed] == [(document["models"][1], "rtn 8-bit g16")]
    assert "group_size 16 does not divide the 127 inputs of encoder.conv1" in failed[0].error
    assert (failed[0].bytes, failed[0].scores, failed[0].wer) == (None, (), None)
    assert all(row.scores and row.bytes for row in rows if not row.error)
    assert "Traceback" in (tmp_path / "errors" / f"{failed[0].key}.txt").read_text()


def broken(error):
    def fails(*words, **named):
        raise error

    return fails


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        pytest.param(PackageNotFoundError("some-package"), marks=pytest.mark.slow),
        pytest.param(
            FileNotFoundError(errno.ENOENT, "No such file or directory", "calibration.wav"), marks=pytest.mark.slow
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_every_row_would_have_stops_the_sweep_and_is_kept_in_no_row(
    error, document, monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "compress", broken(error))
        with pytest.raises(ValueError, match=r"stopped at .*not this recipe's fault.*goes on from there"):
            sottovoce.sweep(document, output=tmp_path)
    assert [row.error for row in read_rows(tmp_path)] == [None]
    assert [row.error for row in sottovoce.sweep(document, output=tmp_path)] == [None] * 8


@pytest.mark.slow
def test_the_same_error_three_times_stops_the_sweep_and_is_kept_in_no_row(document, monkeypatch, tmp_path):
    calls = []

    def fails(*words, **named):
        calls.append(named["output"].name)
        raise AttributeError("'int' object has no attribute 'shape'")

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "compress", fails)
        with pytest.raises(ValueError, match=r"3 rows in turn have failed with .*AttributeError: 'int' object"):
            sottovoce.sweep(document, output=tmp_path)
    assert len(calls) == 3
    assert [row.error for row in read_rows(tmp_path)] == [None]
    assert [row.error for row in sottovoce.sweep(document, output=tmp_path)] == [None] * 8


def test_a_cause_that_no_row_survives_stops_the_sweep_whatever_its_kind(document, monkeypatch, tmp_path):
    monkeypatch.setattr(sweep_module, "evaluate", broken(ValueError("the transcripts are of another set")))
    with pytest.raises(ValueError, match="3 rows in turn have failed with 'the transcripts are of another set'"):
        sottovoce.sweep(document, output=tmp_path)
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    "error", [ValueError("group_size 24 does not divide it"), RuntimeError("CUDA out of memory"), MemoryError()]
)
def test_the_same_error_that_may_be_each_rows_own_stops_nothing(error, document, monkeypatch, tmp_path):
    monkeypatch.setattr(sweep_module, "compress", broken(error))
    rows = sottovoce.sweep(document, output=tmp_path)
    assert [row.error is None for row in rows] == [True, False, False, False] * 2


def test_different_errors_stop_nothing_and_are_kept(document, monkeypatch, tmp_path):
    calls = []

    def fails(*words, **named):
        calls.append(named)
        raise RuntimeError(f"number {len(calls) // 2}")

    monkeypatch.setattr(sweep_module, "compress", fails)
    rows = sottovoce.sweep(document, output=tmp_path)
    errors = [row.error for row in rows if row.error]
    assert errors == [f"RuntimeError: number {i}" for i in (0, 1, 1, 2, 2, 3)]
    assert read_rows(tmp_path) == rows


def test_a_sweep_needs_no_package_metadata_of_sottovoce(document, monkeypatch, tmp_path):
    find = importlib.metadata.version

    def version(name):
        if name == "sottovoce":
            raise PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    for module in [module for name, module in sys.modules.items() if name.startswith("sottovoce.")]:
        if getattr(module, "version", None) is find:
            monkeypatch.setattr(module, "version", version)
    rows = sottovoce.sweep(without_wanda(document), output=tmp_path)
    assert [row.error for row in rows] == [None] * 3
    assert sottovoce.read_artifact(rows[1].artifact).versions["sottovoce"] == sottovoce.__version__


# what would fail every row of a model is found before the first
def long_clip(speech, folder, seconds=2.5):
    soundfile.write(folder / "long.wav", [0.1] * round(16_000 * seconds), 16_000)
    return write_rows(folder / "long.jsonl", [*rows_at_home(speech)[:3], {"audio": "long.wav", "text": "the day"}])


def cut_clip(speech, folder):
    rows = rows_at_home(speech)[:3]
    data = Path(rows[1]["audio"]).read_bytes()
    (folder / "cut.flac").write_bytes(data[: len(data) // 2])
    return write_rows(folder / "cut.jsonl", [rows[0], {**rows[1], "audio": "cut.flac"}, rows[2]])


@pytest.mark.parametrize("place", ["data", "calibration", "train"])
@pytest.mark.parametrize(("bad", "message"), [(long_clip, "long.wav lasts 2.50 s"), (cut_clip, "cut.flac.*cut short")])
def test_a_clip_that_no_row_of_a_model_could_take_is_refused_before_any_row(
    bad, message, place, document, speech, tmp_path
):
    manifest = str(bad(speech, tmp_path))
    change = {
        "data": {"data": [manifest]},
        "calibration": {"calibration": {"data": manifest}},
        "train": {"train": manifest, "recipes": [{"steps": [{"distill": {"epochs": 1}}]}]},
    }
    if (place, bad) == ("train", cut_clip):
        pytest.skip("training audio may be of any size and is read as it is used")
    with pytest.raises(ValueError, match=message):
        sottovoce.sweep({**document, **change[place]}, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sweep_overwrites_no_order_of_anothers(document, tmp_path):
    (tmp_path / "order.json").write_text('{"shop": 12}')
    with pytest.raises(ValueError, match=r"order\.json is not a sweep's and would be overwritten"):
        sottovoce.sweep(document, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["order.json"]


def test_a_sweep_does_not_go_into_a_checkpoints_folder(document):
    with pytest.raises(ValueError, match="is a checkpoint's folder, and results need one of their own"):
        sottovoce.sweep(document, output=document["models"][0])


def test_a_sweep_leaves_what_else_is_in_its_folder(document, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    sottovoce.sweep({**without_wanda(document), "keep_artifacts": False}, output=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_training_audio_without_the_transcripts_that_a_recipe_learns_is_refused_before_any_row(
    document, speech, tmp_path
):
    untold = tmp_path / "untold.jsonl"
    rows = [json.loads(line) for line in speech.read_text().splitlines()]
    audio = [{"audio": str(speech.parent / row["audio"])} for row in rows]
    untold.write_text("".join(json.dumps(row) + "\n" for row in audio))
    recipes = [RECIPES[0], {"steps": [{"magnitude": {"sparsity": 0.5}}, {"finetune": {"epochs": 1}}]}]
    with pytest.raises(ValueError, match="text"):
        sottovoce.sweep({**document, "train": str(untold), "recipes": recipes}, output=tmp_path / "out")
    assert not (tmp_path / "out" / "rows").exists()


def test_the_teacher_is_heard_once_for_all_rows_that_learn_from_it(document, lessons, toy, tmp_path, monkeypatch):
    known, own_tokens = [], recover_module.own_tokens

    def counted(teacher, corpus, file, batch, track):
        known.append(file.is_file())
        return own_tokens(teacher, corpus, file, batch, track)

    monkeypatch.setattr(recover_module, "own_tokens", counted)
    steps = [[{"distill": {"batch": 4, "learning_rate": rate, "where": "decoder.*"}}] for rate in (1e-4, 1e-3)]
    plan = {**document, "models": [str(toy("whisper"))], "train": str(lessons("whisper"))}
    rows = sottovoce.sweep({**plan, "recipes": [{"steps": each} for each in steps]}, output=tmp_path)
    assert not any(row.error for row in rows)
    assert known == [False, True]
    assert len(list((tmp_path / "heard").iterdir())) == 1


def test_rows_that_were_calibrated_on_the_test_set_fail_alone(document, speech, tmp_path):
    rows = sottovoce.sweep({**document, "models": document["models"][:1], "data": [str(speech)]}, output=tmp_path)
    assert [bool(row.error) for row in rows] == [False, False, False, True]
    assert "was calibrated or trained on 2 of the 8 utterances" in rows[3].error


def test_new_test_data_or_another_normalizer_compresses_nothing_again(document, compressed, tmp_path):
    plan = without_wanda(document)
    before = sottovoce.sweep(plan, output=tmp_path)
    manifest = Path(plan["data"][0])
    fewer = manifest.with_name("fewer.jsonl")
    fewer.write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]))
    compressed.clear()
    for change in ({"data": [str(fewer)]}, {"normalizer": "none"}):
        after = sottovoce.sweep({**plan, **change}, output=tmp_path)
        assert [row.error for row in after] == [None] * 3
        assert {row.key for row in after}.isdisjoint(row.key for row in before)
        assert [row.artifact for row in after] == [row.artifact for row in before]
        assert read_rows(tmp_path) == after  # a report shows the latest sweep, not every row that ever was
    assert compressed == []


def test_a_failed_row_is_computed_again_only_when_asked(document, compressed, decoded, monkeypatch, tmp_path):
    plan = without_wanda(document)
    compress = sweep_module.compress

    def broken(*words, **named):
        raise RuntimeError("no memory left")

    monkeypatch.setattr(sweep_module, "compress", broken)
    assert [row.error for row in sottovoce.sweep(plan, output=tmp_path)] == [
        None,
        *["RuntimeError: no memory left"] * 2,
    ]
    monkeypatch.setattr(sweep_module, "compress", compress)
    assert sum(row.error is not None for row in sottovoce.sweep(plan, output=tmp_path)) == 2
    assert compressed == []
    decoded.clear()
    rows = sottovoce.sweep(plan, output=tmp_path, retry_failed=True)
    assert [row.error for row in rows] == [None] * 3
    assert compressed == [Path(row.artifact).name for row in rows[1:]]
    assert sum(decoded) == 2 * len(rows_of(plan["data"][0]))  # the uncompressed model is not heard again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipes": [*RECIPES, {"steps": ["gptqq"]}]}, "unknown method 'gptqq'"),
        ({"models": ["nowhere"]}, "'nowhere' is neither a folder here"),
        ({"data": ["nowhere.jsonl"]}, r"there is no corpus nowhere\.jsonl"),
        ({"calibration": {"data": "nowhere.jsonl"}}, r"there is no corpus nowhere\.jsonl"),
    ],
)
def test_what_no_row_could_work_with_fails_before_any_row(change, message, document, tmp_path):
    with pytest.raises(ValueError, match=message):
        sottovoce.sweep({**document, **change}, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_calibration_than_there_is_fails_before_any_row(document, tmp_path):
    with pytest.raises(ValueError, match=r"9 utterances asked of .*, which has 8"):
        sottovoce.sweep(document, output=tmp_path / "run", overrides=["calibration.limit=9"])
    assert not (tmp_path / "run").exists()


def test_a_damaged_row_is_named(swept, document, tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / f"{swept[1][0].key}.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ValueError, match=f"{swept[1][0].key}.json is not a row of a sweep .*remove it"):
        read_rows(tmp_path)
