"""A recipe held against the runtime that it names, before any weight is read."""

import pytest

import sottovoce
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recipes.target import expected_entries
from sottovoce.recognition.target import find_target


def test_the_expected_table_is_the_one_that_comes_out(toy, tmp_path):
    steps = [{"magnitude": {"where": "*.fc1"}}, {"rtn": {"bits": 4, "group_size": 16, "symmetric": False}}]
    recipe, target = read_recipe({"steps": steps}), find_target(toy("whisper"))
    found = expected_entries(select(recipe, target.layout()), target.entries(), target.layout().components)
    made = sottovoce.compress(toy("whisper"), recipe={"steps": steps}, output=tmp_path / "made")
    for ours, theirs in zip(found, made.entries, strict=True):
        for name in ("name", "dtype", "bits", "group_size", "symmetric", "scale_dtype", "zero"):
            assert getattr(ours, name) == getattr(theirs, name), (ours.name, name)
        assert bool(ours.mask) == bool(theirs.mask)


def test_a_recipe_that_its_target_could_not_hold_is_refused_before_the_work(toy, tmp_path):
    recipe = {"target": "executorch", "grid": {"bits": 4, "group_size": 16}, "steps": ["rtn"]}
    with pytest.raises(
        ValueError, match=r"names ExecuTorch as its target.*\n.*groups of 16: a multiple of 32"
    ) as error:
        sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / "made")
    assert "and" in str(error.value).splitlines()[-1]
    assert not (tmp_path / "made").exists()


def test_a_target_sets_what_it_needs_of_a_grid_unless_the_recipe_says_otherwise(toy):
    dtype = read_recipe("gptq-w4-executorch").steps[0].options["scale_dtype"]
    assert dtype == "bfloat16"
    own = {"target": "executorch", "grid": {"scale_dtype": "float32"}, "steps": ["rtn"]}
    assert read_recipe(own).steps[0].options["scale_dtype"] == "float32"
    with pytest.raises(ValueError, match="unknown runtime 'onyx'; did you mean onnx"):
        read_recipe({"target": "onyx", "steps": ["rtn"]})


def test_blocks_that_are_dropped_and_neurons_that_go_are_none_of_the_runtimes(toy):
    target = find_target(toy("whisper"))
    steps = [{"drop_layers": {"encoder": [0]}}, {"prune_width": {"neurons": 0.5, "where": "encoder"}}, "rtn"]
    selection = select(read_recipe({"steps": steps}), target.layout())
    found = {entry.name: entry for entry in expected_entries(selection, target.entries(), target.layout().components)}
    assert found.keys() == selection.last.keys()
    assert "encoder.layers.1.fc1" not in found
    assert found["encoder.layers.0.fc1"].shape == (32, 32)
    assert found["decoder.layers.0.fc1"].shape == (64, 32)
    assert found["encoder.layers.0.fc1"].bits == 4
