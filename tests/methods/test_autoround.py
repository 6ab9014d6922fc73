from dataclasses import replace

import pytest
import torch

from sottovoce.blocks.layers import Share
from sottovoce.blocks.learn import SignDescent, learn
from sottovoce.blocks.objective import LayerObjective
from sottovoce.blocks.settings import Learning
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods.autoround import Offsets, autoround
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from tests.methods.degenerate import MASK, assert_finite_and_near, every_case
from tests.methods.samples import block_of, layer_of, noise, output_error, some_inputs, some_weights
from tests.reference import autoround as slow
from tests.tiers import in_turn

FEW = Learning(iterations=60)
GRIDS = [Grid(bits, size, symmetric) for bits in (2, 4) for size in (8, "channel") for symmetric in (True, False)]


class Forgetful(LayerObjective):
    """Finds every state better than the one before, so that the last is kept."""

    checks = 0

    def error(self, values):
        self.checks += 1
        return 1 / self.checks


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_each_step_is_that_of_the_slow_one(grid):
    w = some_weights(4, 24).double()
    x = some_inputs(100, 24).double()
    gram = x.T @ x / len(x)
    size = grid.group_size if isinstance(grid.group_size, int) else 24
    for iterations in (1, 2, 7):
        base = Offsets(Share("layer", w, None, None), grid)
        optimizer = SignDescent([{"params": list(base.parameters), "lr": 0.05}])
        objective = Forgetful("layer.weight", w, gram)
        learn(objective, [base], optimizer, iterations, checks=iterations, patience=9, rate=lambda part: 1 - part)
        made, offsets, factors = slow.learn(
            w.tolist(), gram.tolist(), grid.bits, size, grid.symmetric, grid.scale_dtype, iterations, 0.05
        )
        torch.testing.assert_close(base.offset.detach(), torch.tensor(offsets, dtype=torch.float64))
        expected = torch.tensor(factors, dtype=torch.float64).permute(2, 0, 1)
        torch.testing.assert_close(base.factors.detach(), expected)
        torch.testing.assert_close(base.values()["layer.weight"], torch.tensor(made, dtype=torch.float64))


@pytest.mark.parametrize(
    ("group", "symmetric", "bits", "masked"), in_turn([16, "tensor"], [True, False], [2, 3, 4], [False, True])
)
def test_outputs_are_never_further_off_than_those_of_rounding_to_nearest(bits, symmetric, group, masked):
    grid, nearest, learned = Grid(bits, group, symmetric), 0.0, 0.0
    for seed in range(3):
        x = some_inputs(300, 48, seed)
        mask = noise(32, 48, seed=seed + 50) > -0.5 if masked else None
        layer = layer_of(some_weights(32, 48, seed), mask=mask)
        layer.weight = rtn(layer, InputStats(), grid=grid)
        before = output_error(layer, x)
        autoround(block_of(layer, x=x), grid=grid, learning=FEW)
        after = output_error(layer, x)
        assert after <= before * (1 + 1e-5)
        nearest, learned = nearest + before, learned + after
        assert layer.weight.mask is mask
        assert mask is None or (layer.weight.dense()[~mask] == 0).all()
    if (bits, group, masked) == (2, 16, False):
        assert learned < 0.85 * nearest


def test_what_is_stored_is_what_was_judged():
    share, grid = Share("layer", some_weights(8, 32), None, None), Grid(3, 16, symmetric=False)
    base = Offsets(share, grid)
    with torch.no_grad():
        base.offset.copy_(0.5 * noise(8, 32, seed=1))
        base.factors.copy_(torch.rand(2, 8, 2, generator=torch.Generator().manual_seed(0)))
    stored = base.quantized()
    assert torch.equal(stored.dense(), base.values()["layer.weight"])
    assert stored.scale.dtype == torch.float16
    assert stored.zero_point.dtype == torch.uint8


def test_without_ranges_the_scales_are_those_of_rounding_to_nearest():
    layer, grid = layer_of(some_weights(8, 32)), Grid(3, 16, symmetric=False)
    autoround(block_of(layer, x=some_inputs(100, 32)), grid=grid, learning=FEW, ranges=False)
    nearest = rtn(layer, InputStats(), grid=grid)
    assert torch.equal(layer.weight.base.scale, nearest.base.scale)
    moved = layer.weight.base.codes.int() - nearest.base.codes.int()
    assert 0 < moved.abs().max() <= 1


def test_the_base_imitates_what_the_low_rank_term_leaves_over():
    w, x = some_weights(8, 24), some_inputs(300, 24)
    factors = (noise(8, 2, seed=5) * 0.1, noise(2, 24, seed=6))
    layer, rest = layer_of(w), layer_of(w - factors[0] @ factors[1])
    layer.weight = replace(layer.weight, low_rank=factors)
    for each in (layer, rest):
        autoround(block_of(each, x=x), grid=Grid(4, 8), learning=FEW)
    assert torch.equal(layer.weight.base.codes, rest.weight.base.codes)
    assert layer.weight.low_rank is factors


def test_a_table_of_many_rows_learns_in_pieces_that_do_not_touch_each_other(monkeypatch):
    w, x = some_weights(12, 24), some_inputs(100, 24)
    whole, pieces = layer_of(w), layer_of(w)
    autoround(block_of(whole, x=x), grid=Grid(3, 8), learning=Learning(iterations=20, patience=20))
    monkeypatch.setattr("sottovoce.blocks.layers._ROWS", 4)
    autoround(block_of(pieces, x=x), grid=Grid(3, 8), learning=Learning(iterations=20, patience=20))
    # each piece keeps its own best state
    assert output_error(pieces, x) <= output_error(whole, x)
    assert (pieces.weight.base.codes == whole.weight.base.codes).float().mean() > 0.8


def test_a_tied_table_minds_its_look_up_too():
    w, x = some_weights(16, 24), some_inputs(100, 24)
    layers = {kind: layer_of(w, kind) for kind in ("linear", "embedding")}
    for layer in layers.values():
        autoround(block_of(layer, x=x), grid=Grid(3, 8), learning=FEW)
    off = {kind: float((layer.weight.dense() - w).square().sum()) for kind, layer in layers.items()}
    assert off["embedding"] < off["linear"]
    assert output_error(layers["linear"], x) < output_error(layers["embedding"], x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grid", [Grid(4), Grid(2, 8, symmetric=False), Grid(4, "tensor", symmetric=False)], ids=str)
@every_case
def test_degenerate_weights_and_inputs_give_finite_weights_near_the_target(case, grid, masked):
    assert_finite_and_near(autoround, case, grid, MASK if masked else None, learning=Learning(iterations=10))
