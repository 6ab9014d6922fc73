"""What a table says that a recipe leaves of a model's structure."""

import pytest

from sottovoce.methods import METHODS, find
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select


@pytest.mark.parametrize(
    ("name", "steps", "told"),
    [
        ("whisper", [{"drop_layers": {"encoder": 1, "decoder": [0]}}], ["encoder 1 of 2 + decoder 1 of 2 blocks"]),
        ("wav2vec2", [{"drop_layers": {"encoder": [1]}}], ["encoder 1 of 2 blocks"]),
        ("whisper", [{"merge_layers": {"decoder": [0]}}], ["decoder 1 of 2 blocks by merging"]),
        (
            "whisper",
            [{"drop_layers": {"encoder": [0]}}, {"prune_width": {"heads": 1, "where": "encoder.layers.*"}}],
            ["encoder 1 of 2 blocks", "encoder 1 of 2 heads (obs)"],
        ),
        (
            "whisper",
            [{"prune_width": {"heads": 1, "neurons": 0.5, "multiple_of": 8, "importance": "wanda"}}],
            ["1 of 2 heads + 32 of 64 neurons (wanda)"],
        ),
        (
            "whisper",
            [{"prune_width": {"neurons": 0.5, "multiple_of": 8, "over": "stack"}}],
            ["128 of 256 neurons in all (obs)"],
        ),
        ("whisper", [{"trim_vocabulary": {"calibration": True}}], ["tokens of calibration"]),
        ("whisper", ["shorten_context"], ["context of the clip"]),
        ("whisper", [{"shorten_context": {"margin_seconds": 0.5}}], ["context of the clip + 0.5 s"]),
        ("whisper", [{"pool_time": {"factor": 3, "by": "drop"}}], ["1 of 3 frames after block 1 (first)"]),
        ("moonshine", ["rtn"], []),
    ],
)
def test_a_step_tells_what_it_leaves_of_the_model_as_the_steps_before_left_it(name, steps, told, toy):
    layout = open_layout(resolve(toy(name)))
    assert list(select(read_recipe({"steps": steps}), layout).structure) == told


def test_a_vocabulary_is_told_by_its_size(toy):
    layout = open_layout(resolve(toy("whisper")))
    before = layout.module.config.vocab_size
    steps = [{"trim_vocabulary": {"size": before - 3}}]
    assert select(read_recipe({"steps": steps}), layout).structure == (f"{before - 3:,} of {before:,} tokens",)


def test_every_method_that_changes_the_structure_or_the_tokens_tells_what_it_leaves():
    changing = [name for name in METHODS if {"structure", "vocabulary"} & set(find(name).parts)]
    assert changing == [name for name in METHODS if find(name).left]
