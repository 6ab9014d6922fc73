import errno
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

import sottovoce
from sottovoce.artifact import folder as artifacts
from sottovoce.artifact.base import is_artifact
from sottovoce.artifact.folder import FORMAT, load_layers, read_artifact
from sottovoce.files.atomic import sha256
from sottovoce.recognition.target import find_target
from tests.forgery import rewrite

ROUNDED = {"grid": {"group_size": 16, "symmetric": False}, "steps": [{"rtn": {"where": "*fc1"}}]}


@pytest.fixture
def made(toy, tmp_path):
    """An artifact with groups, zero points, a mask and factors, and the folder that holds it alone."""
    steps = [*ROUNDED["steps"], {"magnitude": {"where": "*fc2"}}, {"low_rank": {"where": "*fc2", "metric": "plain"}}]
    return sottovoce.compress(toy("whisper"), recipe={**ROUNDED, "steps": steps}, output=tmp_path / "made" / "a")


def content(folder):
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rewrite_weights(folder, change):
    """Change tensors and sign the file again."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    rewrite(folder, lambda document: document["files"].update({path.name: sha256(path)}))


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as caught:
        sottovoce.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is in it --------------------------------------------------------------------------------


def test_an_artifact_needs_nothing_beside_it(made, toy, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(made.folder, elsewhere)
    names = {path.name for path in elsewhere.iterdir()}
    assert names >= {"config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json"}
    assert set(read_artifact(elsewhere).files) == names - {"sottovoce.json"}
    assert sottovoce.load(elsewhere).rules == sottovoce.load(toy("whisper")).rules


def test_it_records_where_it_comes_from_and_what_was_done(made, toy):
    target = find_target(toy("whisper"))
    assert made.base.model == str(toy("whisper"))
    assert (made.base.revision, made.base.digest) == (None, target.digest)
    assert made.base.bytes == (toy("whisper") / "model.safetensors").stat().st_size
    [recipe] = made.recipes
    assert [next(iter(step)) for step in recipe["steps"]] == ["rtn", "magnitude", "low_rank"]
    assert set(made.versions) == {"sottovoce", "torch", "transformers", "safetensors"}
    done = {entry.name: entry.steps for entry in made.entries}
    assert done["encoder.layers.0.fc2"] == ("magnitude", "low_rank(metric=plain)")
    assert done["encoder.layers.0.fc1"] == ("rtn(group_size=16, symmetric=False)",)
    assert done["encoder.conv1"] == ()


def test_it_records_the_calibration_and_its_audio(toy, speech, tmp_path):
    artifact = sottovoce.compress(
        toy("moonshine"), recipe={"steps": ["wanda"]}, output=tmp_path / "a", data=speech, limit=5, seed=7
    )
    [record] = artifact.calibrations
    assert (record["utterances"], record["seed"], record["tokens"]) == (5, 7, "own")
    rows = {row["id"]: row for row in map(json.loads, speech.read_text().splitlines())}
    assert record["seconds"] == pytest.approx(sum(rows[i]["seconds"] for i in record["ids"]), abs=1e-3)
    assert len(artifact.fitted_fingerprints) == 5
    other = sottovoce.compress(
        toy("moonshine"), recipe={"steps": ["wanda"]}, output=tmp_path / "b", data=speech, limit=5, tokens="transcript"
    )
    assert other.calibrations[0]["tokens"] == "transcript"
    assert other.calibrations[0]["ids"] != record["ids"]


def test_the_readme_says_what_it_is(made, toy):
    text = (made.folder / "README.md").read_text()
    assert f"Made from `{toy('whisper')}`" in text
    assert f"{made.bytes / 1e6:.2f} MB now" in text
    assert "| 4 | magnitude then low_rank(metric=plain) |" in text
    assert "none: the recipe needs no data" in text


def test_the_same_work_twice_is_the_same_file(made, toy, tmp_path):
    steps = [{next(iter(step)): next(iter(step.values()))} for step in made.recipes[0]["steps"]]
    again = sottovoce.compress(toy("whisper"), recipe={"steps": steps}, output=tmp_path / "b")
    assert (again.folder / "model.safetensors").read_bytes() == (made.folder / "model.safetensors").read_bytes()


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "README.md"])
@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_one_wrong_bit_in_any_file_is_damage(name, place, made):
    path = made.folder / name
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 4
    path.write_bytes(data)
    assert name in refused(made.folder, "is damaged: its SHA-256 differs from the one in sottovoce.json")


def test_one_wrong_bit_anywhere_in_the_manifest_is_damage(made):
    path = made.folder / "sottovoce.json"
    data = path.read_bytes()
    for place in range(0, len(data), len(data) // 40):
        if chr(data[place]).isspace():
            continue  # the layout of JSON says nothing
        wrong = bytearray(data)
        wrong[place] ^= 1
        path.write_bytes(wrong)
        refused(made.folder, r"sottovoce\.json cannot be read|does not match its own digest|reads up to|is no manifest")


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_file_that_was_cut_is_damage(left, made):
    path = made.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    refused(made.folder, r"model\.safetensors is damaged")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "generation_config.json"])
def test_a_file_that_is_missing_is_named(name, made):
    (made.folder / name).unlink()
    refused(made.folder, f"lacks {name}, which its table names; copy the folder again")


def test_a_newer_format_asks_for_a_newer_sottovoce(made):
    rewrite(made.folder, lambda document: document.update(format=FORMAT + 1))
    refused(
        made.folder,
        f"has format {FORMAT + 1}; this version of sottovoce reads up to {FORMAT}; a newer version can read it",
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "1"}', '"text"', "\xff", '{"format": 1}'])
def test_a_manifest_that_is_none_is_refused(text, made):
    (made.folder / "sottovoce.json").write_bytes(text.encode("latin-1"))
    refused(made.folder, r"cannot be read|has format|does not match its own digest")


def test_an_edited_manifest_is_refused(made):
    path = made.folder / "sottovoce.json"
    document = json.loads(path.read_text())
    document["layers"][0]["steps"] = ["gptq"]
    path.write_text(json.dumps(document))
    refused(made.folder, "does not match its own digest: it was edited or damaged")


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hostname", "folder/file", ".."])
def test_a_manifest_that_names_a_file_outside_is_refused(name, made):
    (made.folder.parent / "outside.json").write_text("{}")
    rewrite(made.folder, lambda document: document["files"].update({name: "0" * 64}))
    refused(made.folder, "names a file outside its folder|lacks")


# --- a valid signature over what cannot be --------------------------------------------------------

FC1, FC2 = "model.encoder.layers.0.fc1.weight", "model.encoder.layers.0.fc2.weight"


def set_first(name, value):
    return lambda tensors: tensors[name].view(-1).__setitem__(0, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_first(f"{FC1}.scale", torch.nan), r"fc1\.weight\.scale holds values that are not finite"),
        (set_first(f"{FC1}.scale", torch.inf), r"fc1\.weight\.scale holds values that are not finite"),
        (set_first(f"{FC1}.scale", 0), r"fc1\.weight\.scale holds values that are not positive"),
        (set_first(f"{FC1}.scale", -1), r"fc1\.weight\.scale holds values that are not positive"),
        (set_first(f"{FC2}.left", torch.nan), r"fc2\.weight\.left holds values that are not finite"),
        (set_first("model.encoder.conv1.bias", torch.nan), r"conv1\.bias holds values that are not finite"),
        (set_first("model.encoder.conv1.weight", torch.nan), r"conv1\.weight holds values that are not finite"),
        (lambda tensors: tensors.pop(f"{FC1}.zero_point"), r"fc1\.weight\.zero_point is absent"),
        (lambda tensors: tensors.pop("model.encoder.conv1.bias"), r"conv1\.bias is absent"),
        (
            lambda tensors: tensors.update({f"{FC1}.scale": tensors[f"{FC1}.scale"].float()}),
            r"scale is float32 \(64, 2\); the table says float16 \(64, 2\)",
        ),
        (
            lambda tensors: tensors.update({f"{FC1}.codes": tensors[f"{FC1}.codes"][1:].contiguous()}),
            r"codes is uint8 \(63, 16\); the table says uint8 \(64, 16\)",
        ),
        (lambda tensors: tensors[f"{FC2}.mask"].fill_(255), r"mask keeps 2048 weights; the table says 1024"),
    ],
)
def test_weights_that_cannot_be_are_refused_by_name(change, message, made):
    rewrite_weights(made.folder, change)
    refused(made.folder, message)


@pytest.fixture
def finer(toy, speech, tmp_path):
    """An artifact with outliers, under a mask and without, rounded scales and a table."""
    steps = [{"magnitude": {"where": "encoder.layers.0.fc1"}}, {"spqr": {"where": "*fc1"}}]
    steps += [{"palettize": {"where": "*fc2", "sigma": 1}}]
    return sottovoce.compress(
        toy("whisper"), recipe={"steps": steps}, data=speech, limit=2, output=tmp_path / "finer" / "a"
    )


OTHER = "model.encoder.layers.1.fc1.weight"


def drop_an_outlier(tensors):
    """Move the first outlier of a row to a weight that the mask drops."""
    counts, mask = tensors[f"{FC1}.outlier_counts"].long(), tensors[f"{FC1}.mask"]
    row = int((counts == 1).nonzero()[0])
    kept = [int(byte) >> bit & 1 for byte in mask[row] for bit in range(8)]
    tensors[f"{FC1}.outlier_columns"][int(counts[:row].sum())] = kept.index(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            set_first(f"{FC2}.outlier_values", torch.inf),
            r"fc2\.weight\.outlier_values holds values that are not finite",
        ),
        (set_first(f"{FC2}.outlier_columns", 64), r"outlier_columns does not rise within each row up to 63"),
        (lambda tensors: tensors[f"{FC2}.outlier_columns"].fill_(3), r"outlier_columns does not rise within each row"),
        (set_first(f"{FC2}.outlier_counts", 60_000), r"outlier_counts counts \d+; the table says \d+"),
        (drop_an_outlier, r"fc1\.weight\.outlier_columns names weights that the mask drops"),
        (set_first(f"{FC2}.table", 99), r"fc2\.weight\.table does not rise"),
        (set_first(f"{FC2}.table", -torch.inf), r"fc2\.weight\.table holds values that are not finite"),
        (set_first(f"{OTHER}.scale_start", -1), r"fc1\.weight\.scale holds values that are not positive"),
        (set_first(f"{OTHER}.scale_step", -1), r"fc1\.weight\.scale_step holds values below 0"),
        (set_first(f"{OTHER}.zero_point_step", torch.nan), r"zero_point_step holds values that are not finite"),
        (lambda tensors: tensors.pop(f"{OTHER}.zero_point_start"), r"zero_point_start is absent"),
    ],
)
def test_outliers_scales_and_tables_that_cannot_be_are_refused_by_name(change, message, finer):
    rewrite_weights(finer.folder, change)
    refused(finer.folder, message)


def test_an_artifact_with_outliers_can_neither_be_pruned_nor_rounded_again(finer, tmp_path):
    with pytest.raises(ValueError, match=r"fc2 that an earlier compression has already rounded; prune first"):
        sottovoce.compress(
            finer.folder, recipe={"steps": [{"magnitude": {"where": "*fc2"}}]}, output=tmp_path / "pruned"
        )
    with pytest.raises(
        ValueError, match=r"rtn would overwrite what an earlier compression wrote in encoder\.layers\.0\.fc1"
    ):
        sottovoce.compress(finer.folder, recipe={"steps": [{"rtn": {"where": "*fc1"}}]}, output=tmp_path / "again")


@pytest.mark.parametrize("older", range(1, FORMAT))
def test_an_artifact_of_an_older_format_is_read(older, made):
    before = {name: layer.weight.dense() for name, layer in load_layers(made)[1].items()}
    rewrite(made.folder, lambda document: document.update(format=older))
    after = load_layers(read_artifact(made.folder))[1]
    assert all(torch.equal(after[name].weight.dense(), dense) for name, dense in before.items())


def test_a_layer_that_the_table_leaves_out_is_missed(made):
    rewrite(made.folder, lambda document: document["layers"].pop(0))
    refused(made.folder, r"says nothing of 1 tensors of the model, first model\.encoder\.conv1\.weight")


# --- saving ---------------------------------------------------------------------------------------


def test_an_output_that_holds_other_things_is_refused_before_any_work(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("sottovoce.compressing.compress.find_target", None)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    before = (tmp_path / "folder" / "thesis.txt", tmp_path / "file")
    for output, message in [
        (tmp_path / "file", "file is a file; name a folder"),
        (tmp_path / "folder", "holds files that are no artifact"),
        (tmp_path / "file" / "a", "file is a file, so nothing can stand below it"),
        (toy("whisper"), "holds files that are no artifact"),
    ]:
        with pytest.raises(ValueError, match=message):
            sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=output)
    assert [path.read_text() for path in before] == ["mine", "mine"]


def test_an_empty_folder_and_one_that_is_new_are_taken(toy, tmp_path):
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "empty", tmp_path / "new" / "below"):
        assert sottovoce.compress(toy("moonshine"), recipe="rtn-w8", output=output).folder == output
        assert is_artifact(output)


def test_a_new_artifact_takes_the_place_of_an_older_one_and_leaves_what_is_not_its_own(toy, made):
    theirs = {"notes.txt": b"mine", "sub/deeper/x": b"mine too", "transcripts/a/test.jsonl": b"{}"}
    for name, text in theirs.items():
        (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (made.folder / name).write_bytes(text)
    new = sottovoce.compress(toy("moonshine"), recipe="rtn-w8", output=made.folder)
    assert new.base.model == str(toy("moonshine"))
    assert {name: (made.folder / name).read_bytes() for name in theirs} == theirs
    assert set(content(made.folder)) == {*new.files, "sottovoce.json", *theirs}
    assert sottovoce.load(made.folder).engine.model.module_class.startswith("Moonshine")
    assert [path.name for path in made.folder.parent.iterdir()] == ["a"]


def test_a_users_text_in_an_artifact_does_not_become_the_next_ones_own(made, toy):
    (made.folder / "notes.txt").write_text("mine")
    further = {"steps": [{"low_rank": {"where": "*fc1", "metric": "plain"}}]}
    sottovoce.compress(made.folder, recipe=further, output=made.folder)
    assert "notes.txt" not in read_artifact(made.folder).files
    sottovoce.compress(toy("moonshine"), recipe="rtn-w8", output=made.folder)
    assert (made.folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["README.md", "generation_config.json", "model.safetensors"])
def test_a_file_of_an_artifact_that_was_edited_is_not_overwritten(name, toy, made):
    (made.folder / name).write_text("my own words")
    before = content(made.folder)
    with pytest.raises(ValueError, match=f"holds {name}, which an artifact would replace, and which is not what"):
        sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=made.folder)
    assert content(made.folder) == before


@pytest.mark.parametrize("name", ["training.jsonl", "vocab.json", "LICENSE"])
def test_a_users_file_under_a_name_that_an_artifact_may_have_is_not_overwritten(name, toy, made):
    (made.folder / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds {name}, which an artifact would replace"):
        sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=made.folder)
    assert (made.folder / name).read_text() == "mine"


def test_beside_a_manifest_that_was_edited_nothing_is_replaced(toy, made):
    document = json.loads((made.folder / "sottovoce.json").read_text())
    (made.folder / "sottovoce.json").write_text(json.dumps({**document, "note": "mine"}))
    with pytest.raises(ValueError, match=r"sottovoce\.json there was edited or damaged, so nobody knows which"):
        sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=made.folder)


def test_a_file_that_decides_transcripts_and_is_not_in_the_table_is_refused(made):
    (made.folder / "vocab.json").write_text("{}")
    refused(made.folder, r"holds vocab\.json, which its table does not name")


def test_removing_an_artifact_leaves_what_is_not_its_own(made):
    (made.folder / "notes.txt").write_text("mine")
    (made.folder / "README.md").write_text("mine as well")
    artifacts.remove(made.folder)
    assert content(made.folder) == {"notes.txt": b"mine", "README.md": b"mine as well"}


def full(*arguments, **keywords):
    raise OSError(errno.ENOSPC, "No space left on device")


def killed(*arguments, **keywords):
    raise KeyboardInterrupt


@pytest.mark.parametrize("failure", [full, killed])
@pytest.mark.parametrize("place", ["weights", "companions", "card", "hashes"])
def test_what_stops_a_save_leaves_the_old_artifact_and_nothing_else(failure, place, toy, made, monkeypatch):
    before = content(made.folder)
    where = {
        "weights": (safetensors.torch, "save_file"),
        "companions": (shutil, "copyfile"),
        "card": (Path, "write_text"),
        "hashes": (sottovoce.artifact.folder, "sha256"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*where[place], failure)
        with pytest.raises((OSError, KeyboardInterrupt)):
            sottovoce.compress(toy("moonshine"), recipe="rtn-w8", output=made.folder)
    assert content(made.folder) == before
    assert [path.name for path in made.folder.parent.iterdir()] == ["a"]


@pytest.mark.parametrize("failure", [full, killed])
def test_a_save_that_stops_leaves_no_half_artifact_at_a_new_place(failure, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(sottovoce.artifact.folder, "model_card", failure)
    with pytest.raises((OSError, KeyboardInterrupt)):
        sottovoce.compress(toy("moonshine"), recipe="rtn-w8", output=tmp_path / "out" / "a")
    assert list((tmp_path / "out").iterdir()) == []


# --- further --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["whisper", "moonshine untied"])
def test_an_artifact_can_be_compressed_further_and_keeps_both_recipes(name, toy, speech, tmp_path):
    blocks = {"where": "*.layers.*"}
    wanda, gptq = {"steps": [{"wanda": blocks}]}, {"steps": [{"gptq": blocks}]}
    first = sottovoce.compress(toy(name), recipe=wanda, output=tmp_path / "a", data=speech, limit=3)
    masks = {layer: kept.weight.mask for layer, kept in load_layers(first)[1].items()}
    second = sottovoce.compress(tmp_path / "a", recipe=gptq, output=tmp_path / "b", data=speech, limit=4)

    assert [next(iter(recipe["steps"][0])) for recipe in second.recipes] == ["wanda", "gptq"]
    assert [record["utterances"] for record in second.calibrations] == [3, 4]
    assert second.base == first.base
    assert second.predicted_bytes() == second.bytes < first.bytes
    _, layers = load_layers(second)
    masked = [layer for layer in layers.values() if layer.weight.mask is not None]
    assert len(masked) > 20
    for layer in masked:
        assert layer.steps == ["wanda", "gptq"]
        assert torch.equal(layer.weight.mask, masks[layer.name])
        assert (layer.weight.dense()[~layer.weight.mask] == 0).all()
    with pytest.raises(ValueError, match="wanda would overwrite what an earlier compression wrote"):
        sottovoce.compress(tmp_path / "b", recipe=wanda, output=tmp_path / "c", data=speech)


def test_an_artifact_can_be_compressed_further_into_its_own_place(toy, tmp_path):
    sottovoce.compress(toy("whisper"), recipe={"steps": ["magnitude"]}, output=tmp_path / "a")
    both = sottovoce.compress(tmp_path / "a", recipe={"steps": ["rtn"]}, output=tmp_path / "a")
    once = sottovoce.compress(toy("whisper"), recipe={"steps": ["magnitude", "rtn"]}, output=tmp_path / "b")
    assert len(both.recipes) == 2
    weights = [(artifact.folder / "model.safetensors").read_bytes() for artifact in (both, once)]
    assert weights[0] == weights[1]


def test_an_artifact_has_no_revision(made):
    with pytest.raises(ValueError, match="is an artifact, which has no revisions"):
        sottovoce.load(made.folder, revision="main")
