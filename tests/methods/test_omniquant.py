import pytest
import torch

from sottovoce.methods.omniquant import Clipped, omniquant
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from sottovoce.reconstruction.layers import Share
from sottovoce.reconstruction.learn import learn
from sottovoce.reconstruction.objective import LayerObjective
from sottovoce.reconstruction.settings import Learning
from sottovoce.stats import InputStats
from tests.methods.degenerate import MASK, assert_finite_and_near, every_case
from tests.methods.samples import block_of, layer_of, noise, output_error, some_inputs, some_weights
from tests.methods.test_autoround import GRIDS, Forgetful
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
    grid, nearest, learned = Grid(bits, group, symmetric), 0.0, 0.0
    for seed in range(3):
        x, layer = some_inputs(300, 48, seed), layer_of(some_weights(32, 48, seed))
        layer.weight = rtn(layer, InputStats(), grid=grid)
        nearest += output_error(layer, x)
        omniquant(block_of(layer, x=x), grid=grid, learning=Learning(iterations=80))
        learned += output_error(layer, x)
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
