from dataclasses import replace
from itertools import product

import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.gptq import gptq, round_by_columns
from sottovoce.methods.magnitude import magnitude
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from sottovoce.numbers.sparsity import keep_fraction, keep_n_of_m
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, noise, output_error, seen, some_inputs, some_weights
from tests.reference import gptq as slow

ROWS, COLUMNS = 5, 24
GRIDS = [
    Grid(bits, size, symmetric) for bits, size, symmetric in product([2, 3, 4], [4, 8, "channel", "tensor"], [1, 0])
]
W = some_weights(ROWS, COLUMNS)
X = some_inputs(200, COLUMNS)
MASKS = {
    "dense": None,
    "2:4": keep_n_of_m(W.abs(), 2, 4),
    "half": keep_fraction(W.abs(), 0.5),
    "a row and a group gone": (torch.arange(ROWS) != 2)[:, None] & (torch.arange(COLUMNS) >= 8),
}


def named(value):
    if isinstance(value, Grid):
        return f"{value.bits}-{value.group_size}-{'symmetric' if value.symmetric else 'asymmetric'}"
    return None


def parts(grid):
    return grid.bits, grid.group_size, grid.symmetric, grid.scale_dtype


def in_double(w, gram, grid, damp=0.01, act_order=False, **options):
    """round_by_columns in float64, where no tie is near, with a factor from the explicit inverse."""
    h = slow.damped(gram, damp)
    order = torch.arange(len(h))
    if act_order:
        order = torch.tensor(sorted(order.tolist(), key=lambda c: -h[c, c].item()))
    factor = torch.linalg.cholesky(torch.linalg.inv(h[order][:, order]), upper=True)
    return round_by_columns(w.double(), factor, grid, order=order, **options)


def assert_same(quantized, codes, scale, zero):
    assert torch.equal(quantized.codes.double(), codes)
    assert torch.equal(quantized.scale.double(), scale)
    if quantized.zero_point is not None:
        assert torch.equal(quantized.zero_point.double(), zero)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_codes_are_those_of_solving_for_the_rest_after_each_column(grid, mask):
    codes, scale, zero, _ = slow.gptq(W, slow.damped(X.T @ X, 0.01), *parts(grid), mask=MASKS[mask])
    for block_size in (1, 7, 128):
        assert_same(in_double(W, X.T @ X, grid, mask=MASKS[mask], block_size=block_size), codes, scale, zero)


@pytest.mark.parametrize("mask", ["dense", "2:4"])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_codes_with_static_groups_are_those_of_the_slow_way_in_any_order(grid, act_order, mask):
    how = {"mask": MASKS[mask], "act_order": act_order, "static_groups": True}
    codes, scale, zero, _ = slow.gptq(W, slow.damped(X.T @ X, 0.01), *parts(grid), **how)
    for block_size in (1, 7, 128):
        assert_same(in_double(W, X.T @ X, grid, block_size=block_size, **how), codes, scale, zero)


@pytest.mark.parametrize("how", [{}, {"static_groups": True}, {"act_order": True, "static_groups": True}], ids=str)
@pytest.mark.parametrize("mask", ["dense", "half"])
@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_the_method_in_float32_leaves_the_slow_way_only_at_a_tie(grid, mask, how):
    grid = replace(grid, scale_dtype=torch.float32)  # a float16 scale may itself be rounded at a tie
    layer, stats = layer_of(W, mask=MASKS[mask]), seen(X)
    quantized = gptq(layer, stats, grid=grid, **how).base
    h = slow.damped(stats.gram / stats.count, 0.01)
    codes, scale, _, places = slow.gptq(W, h, *parts(grid), mask=MASKS[mask], **how)
    order = h.diagonal().argsort(descending=True, stable=True) if "act_order" in how else torch.arange(COLUMNS)
    wrong = quantized.codes.double() - codes
    left = 0
    for row in range(ROWS):
        differing = [c for c in order.tolist() if wrong[row, c]]
        if differing:  # what follows the first difference follows from it
            first, left = differing[0], left + 1
            assert abs(wrong[row, first]) == 1
            assert abs(places[row, first] % 1 - 0.5) < 1e-3
    assert left <= 1
    if not left:
        torch.testing.assert_close(quantized.scale.double(), scale, rtol=1e-4, atol=0)


@pytest.mark.parametrize("how", [{}, {"static_groups": True}, {"act_order": True, "static_groups": True}], ids=str)
@pytest.mark.parametrize("size", [32, "channel"])
def test_the_block_size_changes_nothing(size, how):
    w, x = some_weights(16, 96), some_inputs(500, 96)
    grid = Grid(3, size, symmetric=False)
    whole = in_double(w, x.T @ x, grid, block_size=96, **how)
    for block_size in (1, 5, 32, 40, 64):
        assert_same(
            in_double(w, x.T @ x, grid, block_size=block_size, **how),
            whole.codes.double(),
            whole.scale.double(),
            whole.zero_point.double(),
        )


def total_errors(grid, *, masked=False, **how):
    """The output error of rounding to nearest and of GPTQ, over five layers: one layer alone may be unlucky."""
    nearest = repaired = 0.0
    for seed in range(5):
        x = some_inputs(300, 48, seed)
        layer, stats = layer_of(some_weights(32, 48, seed)), seen(x)
        if masked:
            layer.weight = magnitude(layer, stats, sparsity="2:4")
        mask = layer.weight.mask
        layer.weight = rtn(layer, stats, grid=grid)
        nearest += output_error(layer, x)
        layer.weight = gptq(layer, stats, grid=grid, **how)
        repaired += output_error(layer, x)
        assert layer.weight.mask is mask
        assert mask is None or (layer.weight.dense()[~mask] == 0).all()
    return nearest, repaired


@pytest.mark.parametrize("how", [{}, {"static_groups": True}, {"act_order": True, "static_groups": True}], ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_the_outputs_are_nearer_than_those_of_rounding_to_nearest(grid, how):
    nearest, repaired = total_errors(grid, **how)
    assert repaired < (0.96 if grid.bits == 2 else 0.82) * nearest


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_under_a_mask_dropped_weights_are_zero_and_the_kept_ones_repair_the_damage(grid):
    nearest, repaired = total_errors(grid, masked=True)
    assert repaired < (1.0 if grid.bits == 2 else 0.92) * nearest


def test_at_eight_bits_the_repair_goes_below_the_mask_without_rounding():
    w, x = some_weights(32, 48), some_inputs(1000, 48)
    layer, stats = layer_of(w), seen(x)
    layer.weight = magnitude(layer, stats, sparsity="2:4")
    pruned = output_error(layer, x)
    layer.weight = gptq(layer, stats, grid=Grid(8))
    assert output_error(layer, x) < 0.9 * pruned


def test_the_base_imitates_what_the_low_rank_term_leaves_over():
    w, x = some_weights(8, 24), some_inputs(300, 24)
    factors = (noise(8, 2, seed=5) * 0.1, noise(2, 24, seed=6))
    layer, rest = layer_of(w), layer_of(w - factors[0] @ factors[1])
    layer.weight = replace(layer.weight, low_rank=factors)
    found = gptq(layer, seen(x), grid=Grid(4, 8))
    assert torch.equal(found.base.codes, gptq(rest, seen(x), grid=Grid(4, 8)).base.codes)
    assert found.low_rank is factors


@pytest.mark.parametrize("mask", ["dense", "2:4"])
@pytest.mark.parametrize("grid", [Grid(4), Grid(3, 8, symmetric=False), Grid(4, "tensor", symmetric=False)], ids=named)
@pytest.mark.parametrize(
    ("w", "x"),
    [
        (W, some_inputs(3, COLUMNS)),
        (W, torch.ones(50, COLUMNS)),
        (W, torch.zeros(50, COLUMNS)),
        (W, some_inputs(50, COLUMNS) * (torch.arange(COLUMNS) % 5 > 0)),
        (torch.zeros_like(W), X),
        (torch.full_like(W, 0.3), X),
        (W * 1e-8, X),
        (W, X * 1e-10),
        (W, X * 1e8),
    ],
    ids=[
        "singular",
        "constant input",
        "silent input",
        "dead channels",
        "zero weight",
        "constant weight",
        "tiny weight",
        "tiny input",
        "huge input",
    ],
)
def test_degenerate_weights_and_inputs_give_finite_weights_near_the_target(w, x, grid, mask):
    layer = layer_of(w, mask=MASKS[mask])
    for how in ({}, {"act_order": True, "static_groups": True}):
        layer.weight = gptq(layer, seen(x), grid=grid, **how)
        dense = layer.weight.dense()
        assert torch.isfinite(dense).all()
        assert dense.norm() <= 3 * max(w.norm(), 1e-3)


def test_a_channel_that_never_fires_is_rounded_to_nearest():
    x = X.clone()
    x[:, [3, 7]] = 0
    layer = layer_of(W)
    codes = gptq(layer, seen(x), grid=Grid(4)).base.codes
    assert torch.equal(codes[:, [3, 7]], rtn(layer, InputStats(), grid=Grid(4)).base.codes[:, [3, 7]])


def test_an_embedding_is_damped_by_tied_damp_and_no_other_layer_is():
    stats, grid = seen(X), Grid(2, symmetric=False)
    low, high = (gptq(layer_of(W), stats, grid=grid, damp=damp).base.codes for damp in (0.001, 10.0))
    assert not torch.equal(low, high)
    for kind in ("linear", "conv"):
        assert torch.equal(gptq(layer_of(W, kind), stats, grid=grid, damp=10.0, tied_damp=0.001).base.codes, high)
    tied = layer_of(W, "embedding")
    assert torch.equal(gptq(tied, stats, grid=grid, damp=0.001, tied_damp=10.0).base.codes, high)


def test_the_codes_do_not_depend_on_how_many_vectors_were_seen():
    once, thrice = seen(X), seen(X.repeat(3, 1))
    layer = layer_of(W)
    assert torch.equal(*(gptq(layer, stats, grid=Grid(4)).base.codes for stats in (once, thrice)))


def test_the_target_is_left_as_it_was():
    layer = layer_of(W.clone())
    gptq(layer, seen(X), grid=Grid(3))
    assert torch.equal(layer.target, W)
    assert torch.equal(layer.weight.base, W)


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"act_order": True, "group_size": 32}, True),
        ({"act_order": True, "group_size": 32, "static_groups": True}, False),
        ({"act_order": True, "group_size": "channel"}, False),
        ({"group_size": 32}, False),
    ],
)
def test_act_order_with_groups_asks_for_static_groups(options, refused):
    method = find("gptq")
    why = method.refuse(LayerShape("fc1", "linear", 96, 96), method.options.fill("gptq", options))
    assert bool(why) == refused
    assert not refused or "static_groups: true" in why
