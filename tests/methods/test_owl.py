from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from sottovoce.calibration.squares import mean_squares
from sottovoce.compressing.loop import compress_layers
from sottovoce.methods.owl import allocate, outlier_share, owl
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.recipe import Recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from tests.conftest import TOYS
from tests.methods.samples import noise
from tests.reference import owl as slow

SIZES = {"a": 100, "b": 100, "c": 300}


def test_the_share_of_outliers_is_that_of_the_papers_count():
    scores = [noise(8, 20, seed=1).abs() ** 3, noise(4, 8, seed=2).abs() ** 3]
    for times in (1, 3, 5):
        assert outlier_share(scores, times) == pytest.approx(slow.outliers(scores, times))
    assert outlier_share(scores, 1) > outlier_share(scores, 5) > 0


@pytest.mark.parametrize("sizes", [dict.fromkeys("abc", 7), SIZES])
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_blocks_get_the_sparsities_of_the_slow_way_and_the_whole_what_was_asked(sparsity, sizes):
    outliers = {"a": 0.01, "b": 0.04, "c": 0.02}
    found = allocate(outliers, sizes, sparsity, 0.08)
    expected = slow.sparsities(list(outliers.values()), list(sizes.values()), sparsity, 0.08)
    assert list(found.values()) == pytest.approx(expected)
    assert sum(found[name] * sizes[name] for name in sizes) / sum(sizes.values()) == pytest.approx(sparsity)
    assert found["b"] < found["c"] < found["a"]
    assert found["a"] - found["b"] == pytest.approx(0.16)


@pytest.mark.parametrize("outliers", [{"a": 0.1, "b": 0.1, "c": 0.1}, dict.fromkeys("abc", 0.0)])
def test_blocks_that_do_not_differ_get_what_was_asked(outliers):
    assert allocate(outliers, SIZES, 0.5, 0.08) == pytest.approx(dict.fromkeys("abc", 0.5))


@pytest.mark.parametrize("name", TOYS)
def test_mean_squares_are_those_that_the_sweep_collects(name, toy, clips):
    """The method's pass through the model as it stands against a recipe's statistics, layer by layer."""
    seen = {}
    target = find_target(toy(name))
    model, layers = target.open()
    found = mean_squares(model, clips(name), layers)
    recipe = read_recipe({"steps": ["wanda"]})
    [step] = recipe.steps

    def spy(layer, stats, **options):
        seen[layer.name] = stats.square / stats.count
        return layer.weight

    spied = Recipe("spied", (replace(step, method=replace(step.method, function=spy)),))
    compress_layers(model, layers, select(spied, target.layout()), Material(clips(name)))
    assert set(found) == set(seen) == set(layers)
    for at, mean in seen.items():
        torch.testing.assert_close(found[at], mean, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="at least one clip"):
        mean_squares(model, [], layers)


@pytest.mark.parametrize("pruner", ["magnitude", "wanda", "ria", "sparsegpt", "sparsegpt_joint"])
@pytest.mark.parametrize("name", ["whisper", "moonshine", "wav2vec2"])
def test_every_pruner_drops_the_share_that_its_block_was_given(name, pruner, toy, clips):
    target = find_target(toy(name))
    model, layers = target.open()
    steps = [{"owl": {"sparsity": 0.6, "outlier": 2}}, {pruner: {"where": "blocks", "sparsity": "allocated"}}]
    compress_layers(model, layers, select(read_recipe({"steps": steps}), target.layout()), Material(clips(name)))
    masked = {at: layer for at, layer in layers.items() if layer.weight.mask is not None}
    assert set(masked) == {at for at in layers if "blocks" in model.components[at]}
    asked, dropped, by_block = 0, 0, defaultdict(set)
    for at, layer in masked.items():
        by_block[at.split(".layers.")[0] + at.split(".layers.")[1][0]].add(layer.sparsity)
        share = float((~layer.weight.mask).float().mean())
        assert share <= layer.sparsity
        assert share > layer.sparsity - 1 / 16  # whole weights of rows of 32
        asked += 0.6 * layer.weight.mask.numel()
        dropped += layer.sparsity * layer.weight.mask.numel()
    assert dropped == pytest.approx(asked)
    assert all(len(shares) == 1 for shares in by_block.values())
    assert len(set().union(*by_block.values())) == len(by_block) > 1


def test_the_block_with_more_outliers_keeps_more(toy, clips):
    model, layers = find_target(toy("whisper")).open()
    block = {name: layer for name, layer in layers.items() if name.startswith("encoder.layers.")}
    loud = layers["encoder.layers.1.fc1"]
    w = loud.target.clone()
    w[::4, ::4] *= 40
    loud.change_target(w)
    owl(model, block, Material(clips("whisper")), sparsity=0.5)
    assert layers["encoder.layers.1.fc1"].sparsity < 0.5 < layers["encoder.layers.0.fc1"].sparsity
    assert layers["encoder.layers.1.fc1"].sparsity == layers["encoder.layers.1.self_attn.q_proj"].sparsity


# --- in a recipe ----------------------------------------------------------------------------------

ALLOCATED = {"where": "blocks", "sparsity": "allocated"}
LESSONS = {"distill": {"epochs": 1}}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["owl"], r"owl gives .* a sparsity, and no step after it drops by it; add wanda"),
        (["owl", {"wanda": {"where": "blocks"}}], "no step after it drops by it"),
        (["owl", {"wanda": {**ALLOCATED, "where": "encoder.layers.*"}}], r"owl gives decoder.layers.0"),
        (
            ["owl", {"wanda": {"sparsity": "allocated"}}],
            r"wanda would drop of encoder.conv1 the share .* put owl before",
        ),
        ([{"sparsegpt": ALLOCATED}], "put owl before it"),
        (["owl", {"wanda": ALLOCATED}, {"ria": ALLOCATED}], "put owl before it"),
        (["owl", "owl", {"wanda": ALLOCATED}], "owl would overwrite what owl wrote"),
        (["owl", LESSONS, {"wanda": ALLOCATED}], "distill would train between owl and the step that drops by its"),
        (
            [{"owl": {"sparsity": 0.9}}, {"wanda": ALLOCATED}],
            r"deviation=0.08 lets a block .* less than 0.05 would work",
        ),
    ],
)
def test_an_allocation_without_its_pruner_or_a_pruner_without_its_allocation_is_refused(steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), find_target(toy("whisper")).layout())


@pytest.mark.parametrize(
    "steps",
    [
        ["owl", {"wanda": ALLOCATED}, LESSONS, "gptq"],
        ["finetune", "owl", {"sparsegpt": ALLOCATED}, "rtn"],
        ["owl", {"wanda": {**ALLOCATED, "where": "*.fc?"}}, {"ria": {**ALLOCATED, "where": ["blocks", "!*.fc?"]}}],
    ],
)
def test_an_allocation_is_taken_by_the_pruners_after_it(steps, toy):
    assert select(read_recipe({"steps": steps}), find_target(toy("whisper")).layout())
