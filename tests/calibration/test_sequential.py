"""Statistics unit by unit are those that the loop gives to a step which changes the same layers."""

from dataclasses import replace

import pytest
import torch

from sottovoce.calibration.sequential import in_sequence
from sottovoce.compressing.loop import compress_layers
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.recipe import Recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from tests.conftest import TOYS
from tests.tiers import in_turn

BLOCKS = "*.layers.*"


def halved(layer):
    return layer.with_base(layer.float_base() / 2)


def told_to_a_step(folder, where, clips):
    """What the loop tells a step of each layer's inputs; the step halves the weights."""
    seen = {}
    [step] = read_recipe({"steps": [{"wanda": {"where": where}}]}).steps

    def spy(layer, stats, **options):
        seen[layer.name] = stats.square.clone()
        return halved(layer)

    target = find_target(folder)
    model, layers = target.open()
    spied = Recipe("spied", (replace(step, method=replace(step.method, function=spy)),))
    compress_layers(model, layers, select(spied, target.layout()), Material(clips))
    return seen


@pytest.mark.parametrize(("where", "name"), in_turn([BLOCKS, "*", "decoder.layers.1.*"], TOYS))
def test_what_a_unit_reads_is_what_the_changed_units_before_it_put_out(where, name, toy, clips):
    if name.startswith("wav2vec2") and where.startswith("decoder"):
        pytest.skip("has no decoder")
    expected = told_to_a_step(toy(name), where, clips(name))
    model, layers = find_target(toy(name)).open()
    found = {}

    def see(stats):
        for layer, of_layer in stats.items():
            found[layer] = of_layer.square.clone()
            model.assign(replace(layers[layer], weight=halved(layers[layer])))

    in_sequence(model, clips(name), expected, frozenset({"square"}), see)
    assert set(found) == set(expected)
    for layer, square in found.items():
        assert torch.equal(square, expected[layer]), layer


def test_without_clips_there_is_nothing_to_see(toy):
    model, layers = find_target(toy("whisper")).open()
    with pytest.raises(ValueError, match="need at least one clip"):
        in_sequence(model, (), layers, frozenset({"square"}), lambda stats: None)
