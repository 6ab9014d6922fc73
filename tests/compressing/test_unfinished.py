"""Compressions that train: killed and asked again, another plan, what the artifact says of its training."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import sottovoce
from sottovoce.artifact.folder import read_artifact
from sottovoce.calibration.clips import calibrate
from sottovoce.compressing.unfinished import Unfinished
from sottovoce.models.base import SpeechModel
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from tests import toys
from tests.measure.manifests import rows_at_home, write_rows
from tests.tiers import one_fast

LESSONS = {"batch": 2, "precision": "fp32", "held_out": 0.25, "checks": 1, "learning_rate": 0.02, "epochs": 2}
BLOCKS = "*.layers.*"
RECIPE = {
    "steps": [
        {"wanda": {"where": BLOCKS, "sparsity": "2:4"}},
        {"distill": LESSONS},
        {"gptq": {"where": BLOCKS, "bits": 4, "symmetric": False}},
        {"lora": {**LESSONS, "where": BLOCKS, "rank": 2}},
    ]
}
STEPS = 6  # of each training


class Killed(BaseException):
    """What a test raises where a process would die."""


def dying(training, step):
    """A track that dies before the `step`th step of the `training`th training, both from 0; -1: before none."""
    begun = []

    def track(items, total, what):
        if callable(what):
            begun.append(what)
        here = len(begun) - 1
        for i, item in enumerate(items):
            if callable(what) and (here, i) == (training, step):
                raise Killed
            yield item

    return track


@pytest.fixture
def compress(toy, speech, lessons, tmp_path):
    """Compress a toy by RECIPE into a folder of that name, with anything changed."""

    def run(output, name="whisper", **changes):
        asked = {"recipe": RECIPE, "data": speech, "limit": 3, "train": lessons(name), **changes}
        return sottovoce.compress(asked.pop("model", toy(name)), output=tmp_path / output, **asked)

    return run


def left(folder):
    """What an artifact is: its weights, its document apart from the seconds that training took."""
    document = json.loads((folder / "sottovoce.json").read_text())
    curve = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    for line in curve:
        del line["seconds"]
    del document["digest"], document["files"]["training.jsonl"]
    return (folder / "model.safetensors").read_bytes(), document, curve


@pytest.fixture(scope="module")
def whole(toy, speech, lessons, tmp_path_factory):
    """An artifact that nobody interrupted, by family."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("whole") / "a"
            sottovoce.compress(toy(name), recipe=RECIPE, output=made[name], data=speech, limit=3, train=lessons(name))
        return made[name]

    return of


# --- killed and asked again -----------------------------------------------------------------------


@pytest.mark.parametrize(("death", "name"), one_fast([(1, 5), (0, 0), (0, 4), (1, 0)], ["whisper", "moonshine"]))
def test_a_compression_that_died_and_is_asked_for_again_is_the_same_artifact(death, name, compress, whole, tmp_path):
    training, step = death
    with pytest.raises(Killed):
        compress("a", name, track=dying(training, step))
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "a.unfinished" / "start-1").is_dir()
    assert (tmp_path / "a.unfinished" / "start-3").is_dir() == (training == 1)
    again = []

    def track(items, total, what):
        again.append(what if isinstance(what, str) else "training")
        return iter(items)

    artifact = compress("a", name, track=track)
    assert left(tmp_path / "a") == left(whole(name))
    assert artifact == read_artifact(tmp_path / "a")
    left_to_do = 1 - training
    assert again.count("training") == 1 + left_to_do
    assert again.count("units") == left_to_do
    assert "teacher's transcripts" not in again, "what was heard for one training serves the next"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.slow
def test_a_compression_that_dies_again_and_again_is_the_same_artifact(compress, whole, tmp_path):
    for training, step in ((0, 3), (0, 2), (1, 1), (0, 4)):
        with pytest.raises(Killed):
            compress("a", track=dying(training, step))
    compress("a")
    assert left(tmp_path / "a") == left(whole("whisper"))


def test_a_compression_that_dies_while_it_saves_is_the_same_artifact(compress, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("sottovoce.artifact.folder.model_card", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            compress("a")
    assert [path.name for path in (tmp_path / "a.unfinished").iterdir()] == ["plan.json"]
    compress("a")
    assert left(tmp_path / "a") == left(whole("whisper"))


def test_norms_that_were_smoothed_off_their_dtype_survive_a_kill(speech, lessons, tmp_path):
    folder = toys.write_whisper(tmp_path / "toy")
    file = folder / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    recipe = {"steps": ["smoothquant", {"gptq": {"where": BLOCKS}}, {"distill": {**LESSONS, "where": BLOCKS}}]}
    asked = {"recipe": recipe, "data": speech, "limit": 3, "train": lessons("whisper")}
    sottovoce.compress(folder, output=tmp_path / "whole", **asked)
    with pytest.raises(Killed):
        sottovoce.compress(folder, output=tmp_path / "died", track=dying(0, 3), **asked)
    sottovoce.compress(folder, output=tmp_path / "died", **asked)
    assert left(tmp_path / "died") == left(tmp_path / "whole")
    stored = load_file(tmp_path / "died" / "model.safetensors")
    kinds = {tensor.dtype for name, tensor in stored.items() if "norm" in name}
    assert kinds == {torch.float16, torch.float32}


def test_an_older_artifact_stays_until_the_new_one_is_whole(compress, toy, tmp_path):
    older = sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=tmp_path / "a")
    with pytest.raises(Killed):
        compress("a", track=dying(1, 2))
    assert read_artifact(tmp_path / "a") == older
    assert len(compress("a").trainings) == 1


# --- another plan ---------------------------------------------------------------------------------


def changed_recipe(**options):
    steps = [dict(step) for step in RECIPE["steps"]]
    steps[1] = {"distill": {**LESSONS, **options}}
    return {"steps": steps}


@pytest.fixture
def begun(compress):
    with pytest.raises(Killed):
        compress("a", track=dying(0, 3))


def test_another_recipe_is_refused_with_what_differs(begun, compress, whole, tmp_path):
    with pytest.raises(ValueError, match="holds an unfinished compression that differs") as caught:
        compress("a", recipe=changed_recipe(learning_rate=0.03, encoder=2.0))
    words = str(caught.value)
    assert "recipe.1.distill.learning_rate was 0.02, is 0.03" in words
    assert "recipe.1.distill.encoder was 1.0, is 2.0" in words
    assert words.count(" was ") == 2
    assert str(tmp_path / "a.unfinished") in words
    assert "\n" not in words
    compress("a")
    assert left(tmp_path / "a") == left(whole("whisper"))


def test_a_step_more_is_named_as_one_that_was_not_there(begun, compress):
    recipe = {"steps": [*RECIPE["steps"], {"distill": {**LESSONS, "where": BLOCKS}}]}
    with pytest.raises(ValueError, match=r"recipe\.4\.distill\.batch was not there, is 2"):
        compress("a", recipe=recipe)


def test_other_audio_another_model_and_another_calibration_are_refused(begun, compress, lessons, toy, tmp_path):
    manifest = write_rows(tmp_path / "fewer.jsonl", rows_at_home(lessons("whisper"))[:6])
    with pytest.raises(ValueError, match=r"training was [0-9a-f]{64}, is [0-9a-f]{64}; ask"):
        compress("a", train=manifest)
    with pytest.raises(ValueError, match=r"calibration\.audio was"):
        compress("a", seed=5)
    with pytest.raises(ValueError, match=r"differs: model was [0-9a-f]+, is [0-9a-f]+; ask"):
        compress("a", model=toy("whisper untied"))
    with pytest.raises(ValueError, match=r"language was None, is de; ask"):
        compress("a", language="de")


def test_another_output_has_nothing_to_do_with_it(begun, compress, whole, tmp_path):
    compress("b")
    assert left(tmp_path / "b") == left(whole("whisper"))
    assert (tmp_path / "a.unfinished" / "plan.json").is_file()


def test_the_way_out_that_is_named_works(begun, compress, tmp_path):
    shutil.rmtree(tmp_path / "a.unfinished")
    compress("a", recipe=changed_recipe(learning_rate=0.03))


def test_a_compression_that_trains_nothing_leaves_no_folder(toy, speech, tmp_path):
    with pytest.raises(Killed):
        sottovoce.compress(
            toy("whisper"), recipe="gptq-w4", output=tmp_path / "a", data=speech, limit=3, track=always_dying
        )
    assert not list(tmp_path.iterdir())


def always_dying(items, total, what):
    raise Killed


def test_plans_are_compared_leaf_by_leaf(tmp_path):
    unfinished = Unfinished(tmp_path / "a")
    unfinished.claim({"recipe": [{"a": {"x": 1, "y": [1, 2]}}], "language": None})
    unfinished.claim({"recipe": [{"a": {"x": 1, "y": [1, 2]}}], "language": None})
    with pytest.raises(ValueError, match=r"recipe\.0\.a\.y\.1 was 2, is not there; language was None, is en;"):
        unfinished.claim({"recipe": [{"a": {"x": 1, "y": [1]}}], "language": "en"})


def test_a_users_folder_of_that_name_is_not_taken(compress, tmp_path):
    (tmp_path / "a.unfinished").mkdir()
    (tmp_path / "a.unfinished" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(thesis\.txt\); move it, or name another output"):
        compress("a")
    assert [path.name for path in (tmp_path / "a.unfinished").iterdir()] == ["thesis.txt"]


def test_a_users_file_among_the_state_outlives_it_and_what_a_kill_left_does_not(compress, whole, tmp_path):
    with pytest.raises(Killed):
        compress("a", track=dying(1, 3))
    folder = tmp_path / "a.unfinished"
    (folder / "notes.txt").write_text("mine")
    (folder / "plots").mkdir()
    (folder / ".start-3.new-abc_1").mkdir()
    (folder / ".plan.json.abc_1").write_text("half")
    compress("a")
    assert left(tmp_path / "a") == left(whole("whisper"))
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "plots"]
    assert (folder / "notes.txt").read_text() == "mine"


# --- refused early --------------------------------------------------------------------------------


def test_a_recipe_that_trains_wants_audio_and_one_that_does_not_wants_none(compress, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(SpeechModel, "with_weights", None)
    with pytest.raises(ValueError, match=r"recipe inline trains on audio; give it as train"):
        compress("a", train=None)
    with pytest.raises(ValueError, match=r"recipe inline trains on transcripts; give it as train"):
        compress("a", recipe={"steps": [{"finetune": {}}]}, data=None, train=None)
    with pytest.raises(ValueError, match=r"recipe gptq-w4 does not train, so .* would have no effect; leave train out"):
        compress("a", recipe="gptq-w4")
    assert not list(tmp_path.iterdir())


def test_training_audio_is_checked_before_a_weight_is_read(compress, lessons, tmp_path, monkeypatch):
    monkeypatch.setattr(SpeechModel, "with_weights", None)
    rows = rows_at_home(lessons("whisper"))
    long = write_rows(tmp_path / "long.jsonl", [*rows, {**rows[0], "id": "long", "seconds": 31.0}])
    with pytest.raises(ValueError, match=r"lasts 31\.00 s, and .* transcribes 2 s at once"):
        compress("a", train=long)
    silent = write_rows(tmp_path / "silent.jsonl", [{k: v for k, v in row.items() if k != "text"} for row in rows])
    with pytest.raises(ValueError, match=r"silent\.jsonl line 1: lacks the key 'text'"):
        compress("a", recipe={"steps": [{"finetune": LESSONS}]}, data=None, train=silent)
    with pytest.raises(ValueError, match="there is no corpus"):
        compress("a", train=tmp_path / "nothing.jsonl")
    assert not (tmp_path / "a.unfinished").exists()


# --- what the artifact says -----------------------------------------------------------------------


def test_the_artifact_says_what_it_was_trained_on_and_may_not_be_measured_on_it(whole, lessons, tmp_path):
    artifact, corpus = read_artifact(whole("whisper")), read_corpus(lessons("whisper"))
    [record] = artifact.trainings
    assert (record["dataset"], record["utterances"]) == (corpus.name, 8)
    assert record["seconds"] == pytest.approx(corpus.total_seconds, abs=1e-3)
    assert set(record["fingerprints"]) == set(corpus.fingerprints()) <= artifact.fitted_fingerprints
    heard = write_rows(tmp_path / "heard.jsonl", rows_at_home(lessons("whisper"))[2:3])
    with pytest.raises(ValueError, match=r"on 1 of the 1 utterances of heard, first lesson-\d+"):
        sottovoce.evaluate([artifact.folder], data=heard, output=tmp_path / "run")


def test_the_record_changes_with_a_transcript(compress, lessons, tmp_path):
    rows = rows_at_home(lessons("whisper"))
    recipe = {"steps": [{"magnitude": {}}, {"distill": {**LESSONS, "logits": 0.0, "epochs": 0.1}}]}
    digests = set()
    for output, text in (("a", rows[0]["text"]), ("b", "another")):
        manifest = write_rows(tmp_path / f"{output}.jsonl", [{**rows[0], "text": text}, *rows[1:]])
        digests.add(compress(output, recipe=recipe, data=None, train=manifest).trainings[0]["digest"])
    assert len(digests) == 2


def test_the_curves_are_in_the_artifact_and_among_its_hashes(whole):
    artifact = read_artifact(whole("whisper"))
    assert "training.jsonl" in artifact.files
    curve = artifact.curve()
    assert [(line["training"], line["step"]) for line in curve] == [(t, s) for t in (0, 1) for s in range(STEPS + 1)]
    assert all({"encoder", "logits", "loss"} <= set(line) for line in curve if line["step"])
    assert any("held_out" in line for line in curve)


def test_a_changed_curve_is_a_damaged_artifact(whole, tmp_path):
    folder = shutil.copytree(whole("whisper"), tmp_path / "a")
    with (folder / "training.jsonl").open("a") as file:
        file.write('{"training": 0, "step": 99}\n')
    with pytest.raises(ValueError, match=r"training\.jsonl is damaged"):
        read_artifact(folder)


def test_an_artifact_can_be_trained_further_and_keeps_its_records_and_curves_apart(compress, whole, tmp_path):
    recipe = {"steps": [{"distill": {**LESSONS, "where": BLOCKS, "epochs": 1}}]}
    artifact = compress("b", model=whole("whisper"), recipe=recipe, data=None)
    assert [len(part) for part in (artifact.recipes, artifact.calibrations, artifact.trainings)] == [2, 1, 2]
    counts = {}
    for line in artifact.curve():
        counts[line["training"]] = counts.get(line["training"], 0) + 1
    assert counts == {0: STEPS + 1, 1: STEPS + 1, 2: STEPS // 2 + 1}
    assert find_target(tmp_path / "b").uncompressed().tied


def test_an_artifact_whose_base_has_changed_has_no_teacher(compress, tmp_path):
    folder = toys.write_whisper(tmp_path / "toy")
    sottovoce.compress(folder, recipe="rtn-w8", output=tmp_path / "a")
    toys.write_whisper(tmp_path / "toy", seed=1)
    with pytest.raises(ValueError, match="which has changed since; a teacher has to be the same model"):
        compress("b", model=tmp_path / "a", recipe={"steps": [{"distill": LESSONS}]}, data=None)


def test_a_calibration_that_was_made_before_serves_a_recipe_that_trains(compress, toy, speech, whole, tmp_path):
    model, _ = find_target(toy("whisper")).open()
    made = calibrate(model, read_corpus(speech, need_text=False).select(3, 0))
    with pytest.raises(Killed):
        compress("a", data=made, limit=None, track=dying(1, 1))
    compress("a", data=made, limit=None)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == left(whole("whisper"))[0]
