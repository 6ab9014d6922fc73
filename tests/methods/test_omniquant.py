import pytest
import torch

from sottovoce.blocks.basis import Block
from sottovoce.blocks.layers import Share
from sottovoce.blocks.learn import learn
from sottovoce.blocks.objective import LayerObjective
from sottovoce.blocks.settings import Learning
from sottovoce.calibration.statistics import InputStats
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import divergence
from sottovoce.methods.omniquant import Clipped, Transformed, omniquant
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from sottovoce.numbers.rounding import Rounding
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Weight
from tests.methods.degenerate import MASK, assert_finite_and_near, every_case
from tests.methods.samples import errors_beside_rtn, layer_of, noise, some_inputs, some_weights
from tests.methods.test_autoround import GRIDS, Forgetful
from tests.methods.test_smoothquant import AFTER_NORM, WIDTH, Toy
from tests.planted import plant
from tests.reference import omniquant as slow


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_each_step_is_that_of_the_slow_one(grid):
    w = some_weights(1, 24).double()
    x = some_inputs(100, 24).double()
    gram = x.T @ x / len(x)
    size = grid.group_size if isinstance(grid.group_size, int) else 24
    for iterations in (1, 2, 7):
        base = Clipped(Share("layer", w, None, None), grid)
        optimizer = torch.optim.AdamW(base.parameters, 0.5, weight_decay=0)
        objective = Forgetful("layer.weight", w, gram)
        learn(objective, [base], optimizer, iterations, checks=iterations, patience=9)
        made, strengths = slow.learn(
            w[0].tolist(), gram.tolist(), grid.bits, size, grid.symmetric, grid.scale_dtype, iterations, 0.5
        )
        expected = torch.tensor(strengths, dtype=torch.float64).T[:, None]
        torch.testing.assert_close(base.strength.detach(), expected)
        torch.testing.assert_close(base.values()["layer.weight"][0].tolist(), made)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [16, "tensor"])
@pytest.mark.parametrize("bits", [2, 3])
def test_outputs_are_nearer_than_those_of_rounding_to_nearest(bits, group, symmetric):
    nearest, learned = errors_beside_rtn(omniquant, grid=Grid(bits, group, symmetric), learning=Learning(iterations=80))
    assert learned < 0.9 * nearest


def test_it_begins_within_two_percent_of_the_whole_range_and_rounds_to_nearest_in_it():
    w, grid = some_weights(8, 32), Grid(4, 16, symmetric=False, scale_dtype=torch.float32)
    base = Clipped(Share("layer", w, None, None), grid)
    nearest = rtn(layer_of(w), InputStats(), grid=grid).base
    torch.testing.assert_close(base.quantized().scale / nearest.scale, torch.full((8, 2), 0.9820138))


def test_what_is_stored_is_what_was_judged():
    share, grid = Share("layer", some_weights(8, 32), noise(8, 32, seed=2) > 0, None), Grid(3, 16, symmetric=False)
    base = Clipped(share, grid)
    with torch.no_grad():
        base.strength.copy_(3 * noise(2, 8, 2, seed=1))
    [dense] = share.dense(base.quantized().dense()).values()
    assert torch.equal(dense, base.values()["layer.weight"])


def test_of_a_uniform_row_as_much_is_clipped_as_makes_all_steps_alike():
    w, grid = torch.linspace(-1, 1, 701)[None], Grid(3, "channel")
    base = Clipped(Share("layer", w, None, None), grid)
    optimizer = torch.optim.AdamW(base.parameters, 0.05, weight_decay=0)
    learn(LayerObjective("layer.weight", w, torch.eye(701)), [base], optimizer, 200, checks=40, patience=40)
    # seven levels, and half a step beyond the outermost
    torch.testing.assert_close(base.strength.sigmoid(), torch.full((2, 1, 1), 6 / 7), atol=0.01, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grid", [Grid(4), Grid(2, 8, symmetric=False), Grid(4, "tensor", symmetric=False)], ids=str)
@every_case
def test_degenerate_weights_and_inputs_give_finite_weights_near_the_target(case, grid, masked):
    assert_finite_and_near(omniquant, case, grid, MASK if masked else None, learning=Learning(iterations=10))


# --- the transformation ---------------------------------------------------------------------------


def transformed(toy, name, clips, bits=None, **options):
    """A toy of planted outliers, its activations rounded to `bits`, after omniquant on its blocks."""
    target = find_target(toy(name))
    recipe = {
        "steps": [{"omniquant": {"where": "*.layers.*", "bits": 4, "group_size": 16, "symmetric": False, **options}}]
    }
    model, layers = target.open()
    plant(model, layers, after_norms=True)
    for layer in layers.values():
        if bits and ".layers." in layer.name:
            layer.input = InputPath(rounding=Rounding(bits=bits))
            model.assign(layer)
    compress_layers(model, layers, select(read_recipe(recipe), target.layout()), Material(clips))
    return model, layers


@pytest.mark.parametrize("name", ["whisper", pytest.param("moonshine", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_with_integer_activations_and_outliers_the_transformation_helps(name, toy, clips):
    reference, _ = find_target(toy(name)).open()
    few = {"iterations": 20, "batch": 2, "checks": 4}
    plain, evened = (
        divergence(transformed(toy, name, clips(name), bits=6, let=let, **few)[0], reference, clips(name))
        for let in (False, True)
    )
    assert evened < 0.8 * plain


@pytest.mark.parametrize("shift", ["where_possible", "never"])
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_the_float_model_of_the_new_basis_computes_the_same(name, shift, toy, clips):
    reference, _ = find_target(toy(name)).open()
    model, layers = transformed(toy, name, clips(name), let=True, shift=shift, iterations=5, batch=1, let_rate=0.1)
    moved = 0
    for layer in layers.values():
        moved += not torch.allclose(
            layer.target, reference.find(layer.name).weight.reshape(layer.target.shape), rtol=0.2
        )
        layer.weight = Weight(layer.target)
        model.assign(layer)
    assert moved > 10
    assert divergence(model, reference, clips(name)) < 1e-6


@torch.no_grad()
def test_what_is_learned_is_what_is_settled():
    model = Toy()
    x = noise(60, WIDTH, seed=3) * torch.logspace(-1, 1, WIDTH)
    model(x)
    layers = {name: layer_of(getattr(model, name).weight.clone(), name=name) for name in ("q", "fc1")}
    stats = InputStats()
    stats.add(model.read, {"total", "low", "high"})
    block = Block([AFTER_NORM], layers, {"mlp_in": stats}, model.get_submodule, names=("q", "fc1"))
    learned = Transformed(block, block.sites, Grid(3, 4, symmetric=False), 0.5, "where_possible")
    for tensor in learned.parameters:
        tensor.add_(0.3 * noise(*tensor.shape, seed=5))
    values = learned.values()
    assert {"norm.weight", "norm.bias", "q.weight", "q.bias", "fc1.weight", "fc1.bias"} == set(values)
    learned.settle()
    for name, parameter in model.named_parameters():
        if name in values and not (name.endswith("weight") and name.removesuffix(".weight") in layers):
            torch.testing.assert_close(parameter, values[name])
    for name, layer in layers.items():
        torch.testing.assert_close(layer.weight.dense(), values[f"{name}.weight"], rtol=1e-3, atol=1e-3)


def test_half_an_activation_and_a_shift_without_a_bias_are_refused(toy):
    layout = find_target(toy("moonshine")).layout()

    for options, why in (
        ({"where": "*.q_proj", "let": True}, "with let: true all or none must match where"),
        ({"let": True, "shift": "always"}, "omniquant: shift: always needs biases"),
    ):
        with pytest.raises(ValueError, match=why):
            select(read_recipe({"steps": [{"omniquant": options}]}), layout)
    select(read_recipe({"steps": [{"omniquant": {"where": "*.q_proj"}}]}), layout)
    for earlier in ("rtn", "magnitude"):
        recipe = read_recipe({"steps": [{earlier: {"where": "*fc2"}}, {"omniquant": {"let": True}}]})
        with pytest.raises(ValueError, match="has already fixed"):
            select(recipe, layout)
    select(read_recipe({"steps": ["magnitude", "omniquant"]}), layout)
