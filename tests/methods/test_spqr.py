from dataclasses import replace
from itertools import product

import pytest
import torch

from sottovoce.methods import find
from sottovoce.methods.gptq import gptq
from sottovoce.methods.magnitude import magnitude
from sottovoce.methods.spqr import (
    SecondOrder,
    energetic_groups,
    mean_worth,
    round_with_outliers,
    savings,
    spqr,
)
from sottovoce.numbers.grid import Grid
from sottovoce.numbers.sparsity import keep_fraction
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, noise, output_error, seen, some_inputs, some_weights
from tests.reference import spqr as slow
from tests.reference.gptq import damped
from tests.tiers import in_turn

ROWS, COLUMNS = 10, 24
W = some_weights(ROWS, COLUMNS)
X = some_inputs(200, COLUMNS)
GRIDS = [Grid(bits, size, symmetric) for bits, size, symmetric in product([2, 3, 4], [4, 8, 24], [True, False])]
SECONDS = [SecondOrder(3, 3, 4), SecondOrder(None, None, 16), SecondOrder(2, None, 3), SecondOrder(None, 4, 16)]
MASKS = {
    "dense": None,
    "half": keep_fraction(W.abs(), 0.5),
    "a row and a group gone": (torch.arange(ROWS) != 2)[:, None] & (torch.arange(COLUMNS) >= 8),
}


def named(value):
    if isinstance(value, Grid):
        return f"{value.bits}-{value.group_size}-{'symmetric' if value.symmetric else 'asymmetric'}"
    return f"{value.scale_bits}-{value.zero_bits}-{value.rows}" if isinstance(value, SecondOrder) else None


@pytest.mark.parametrize(("grid", "second", "mask"), in_turn(GRIDS, SECONDS, list(MASKS)), ids=named)
def test_levels_scales_and_outliers_are_those_of_the_slow_way(grid, second, mask):
    h, kept = damped(X.T @ X / len(X), 0.1), MASKS[mask]
    order = energetic_groups(h.diagonal(), grid)
    factor = torch.linalg.cholesky(torch.linalg.inv(h[order][:, order]), upper=True)
    worth = mean_worth(W.double()[:, order], factor, None if kept is None else kept[:, order])
    levels, scales, zeros, outliers = slow.spqr(
        W, h, grid.bits, grid.group_size, grid.symmetric, torch.float16,
        (second.scale_bits, second.zero_bits, second.rows), 0.1, order=order.tolist(), mask=kept,
    )  # fmt: skip
    assert outliers
    for block_size in (5, 128):
        base, found = round_with_outliers(
            W.double(), factor, grid, second, order=order, threshold=0.1 * worth, dtype=torch.float16, mask=kept,
            block_size=block_size,
        )  # fmt: skip
        assert torch.equal(base.codes.double(), levels)
        assert torch.allclose(base.scales().double(), scales, rtol=1e-6, atol=0)
        assert grid.symmetric or torch.allclose(base.zeros().double(), zeros, rtol=1e-5, atol=1e-5)
        places = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
        assert dict(zip(places, found.values.tolist(), strict=True)) == outliers
        assert found.values.dtype == torch.float16


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_what_leaving_one_out_saves_is_what_it_costs_less_without_it(bits, symmetric):
    grid = Grid(bits, 16, symmetric)
    group, diagonal = some_weights(7, 16).T, noise(16, seed=3).abs() + 0.1
    group = torch.cat([group, group.abs(), -group.abs(), torch.zeros(16, 1), torch.full((16, 1), 0.3)], 1).double()
    kept = noise(*group.shape, seed=4) > -1
    kept[:, :7] = True
    found = savings(group, kept, diagonal.double(), grid)
    for r in range(group.shape[1]):
        among = kept[:, r].tolist()
        values = [v for v, k in zip(group[:, r].tolist(), among, strict=True) if k]
        weights = [d for d, k in zip(diagonal.double().tolist(), among, strict=True) if k]
        expected = torch.tensor(slow.savings(values, weights, bits, symmetric), dtype=torch.float64)
        torch.testing.assert_close(found[kept[:, r], r], expected, rtol=1e-6, atol=1e-9)


def test_groups_are_visited_by_their_energy_and_inputs_by_theirs():
    energy = torch.tensor([1.0, 2, 0, 9, 4, 4, 5, 1])
    assert energetic_groups(energy, Grid(3, 2)).tolist() == [3, 2, 4, 5, 6, 7, 1, 0]
    assert energetic_groups(energy, Grid(3, 4)).tolist() == [6, 4, 5, 7, 3, 1, 0, 2]
    assert energetic_groups(energy, Grid(3)).tolist() == energy.argsort(descending=True, stable=True).tolist()


def test_without_outliers_and_second_order_it_is_gptq_but_for_the_fractional_zero():
    grid = Grid(3, 8, symmetric=True)
    plain = {"outlier_threshold": "none", "scale_bits": "none", "zero_bits": "none", "act_order": False, "damp": 0.01}
    found = spqr(layer_of(W), seen(X), grid=grid, **plain)
    expected = gptq(layer_of(W), seen(X), grid=grid)
    assert torch.equal(found.base.codes, expected.base.codes)
    assert torch.equal(found.base.scale, expected.base.scale)
    assert found.outliers is None


def some_layer(seed=0):
    """A layer with a few weights far from the rest."""
    w = some_weights(48, 96, seed)
    return torch.where(noise(48, 96, seed=seed + 9) > 2.6, 6 * w, w), some_inputs(400, 96, seed)


def test_at_fewer_bits_its_outputs_are_nearer_than_those_of_gptq_in_small_groups():
    ours = theirs = bits = 0.0
    for seed in range(4):
        w, x = some_layer(seed)
        layer, stats, grid = layer_of(w), seen(x), Grid(3, 16, symmetric=False)
        layer.weight = gptq(layer, stats, grid=grid)
        theirs += output_error(layer, x)
        layer.weight = spqr(layer, stats, grid=grid)
        ours += output_error(layer, x)
        bits += 3 + 2 * 3 / 16 + 2 * 2 * 16 / (16 * 16) + 32 * len(layer.weight.outliers) / w.numel()
    assert ours < 0.6 * theirs
    assert bits / 4 < 3 + 16 / 16 + 3 / 16 + 2.5


def test_a_lower_threshold_keeps_more_outliers_and_comes_nearer():
    w, x = some_layer()
    layer, counts, errors = layer_of(w), [], []
    for threshold in ("none", 1.0, 0.2, 0.05):
        layer.weight = spqr(layer, seen(x), grid=Grid(3, 16, symmetric=False), outlier_threshold=threshold)
        counts.append(0 if layer.weight.outliers is None else len(layer.weight.outliers))
        errors.append(output_error(layer, x))
    assert counts == sorted(counts)
    assert errors == sorted(errors, reverse=True)
    assert counts[0] == 0
    assert 0 < counts[2] < 0.05 * w.numel()


def test_an_outlier_widens_no_range():
    w = noise(16, 16) * 0.1
    w[3, 5] = 10.0
    layer, stats = layer_of(w), seen(some_inputs(300, 16))
    found = spqr(layer, stats, grid=Grid(3, 16, symmetric=False))
    assert (3, 5) in zip(found.outliers.rows.tolist(), found.outliers.columns.tolist(), strict=True)
    assert found.base.scales().max() < 0.2
    assert found.dense()[3, 5] == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("rows", [16, 20, 5, 1])
def test_rows_that_the_lines_of_scales_do_not_divide_have_a_shorter_last_line(rows):
    found = spqr(layer_of(some_weights(rows, 32)), seen(some_inputs(200, 32)), grid=Grid(3, 16, symmetric=False)).base
    for part in (found.scale, found.zero_point):
        assert part.codes.shape == (rows, 2)
        assert part.start.shape == part.step.shape == (-(-rows // 16), 2)
    assert found.scales().shape == (rows, 2)


@pytest.mark.parametrize("width", [128, 288, 384, 416])
def test_the_widths_of_models_work(width):
    w, x = some_weights(16, width), some_inputs(300, width)
    layer, rough = layer_of(w), layer_of(w)
    layer.weight = spqr(layer, seen(x), grid=Grid(3, 16, symmetric=False))
    rough.weight = gptq(layer, seen(x), grid=Grid(3, symmetric=False))
    assert output_error(layer, x) < output_error(rough, x)


def test_dropped_weights_are_zero_and_no_outliers():
    w, x = some_layer()
    layer = layer_of(w)
    layer.weight = magnitude(layer, seen(x), sparsity=0.5)
    pruned, mask = output_error(layer, x), layer.weight.mask
    layer.weight = spqr(layer, seen(x), grid=Grid(4, 16, symmetric=False))
    assert layer.weight.mask is mask
    assert (layer.weight.dense()[~mask] == 0).all()
    assert not (layer.weight.outliers.positions() & ~mask).any()
    assert output_error(layer, x) < 0.9 * pruned


def test_a_dropped_weight_has_no_say_in_ranges_and_in_what_an_outlier_is():
    mask = MASKS["half"]
    one, two = W, torch.where(mask, W, 100.0)
    assert mean_worth(one, torch.eye(COLUMNS), mask) == mean_worth(two, torch.eye(COLUMNS), mask)
    how = {"order": torch.arange(COLUMNS), "threshold": 0.001, "dtype": torch.float16, "mask": mask}
    (base, far), (other, also_far) = (
        round_with_outliers(w, torch.eye(COLUMNS), Grid(3, 8, symmetric=False), SecondOrder(), **how)
        for w in (one, two)
    )
    assert torch.equal(base.scales(), other.scales())
    assert torch.equal(base.codes[mask], other.codes[mask])
    assert torch.equal(far.dense(), also_far.dense())


@pytest.mark.parametrize("mask", [None, "half", "a row and a group gone", "all"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("w", "x"),
    [
        (W, some_inputs(3, COLUMNS)),
        (W, torch.zeros(50, COLUMNS)),
        (W, some_inputs(50, COLUMNS) * (torch.arange(COLUMNS) % 5 > 0)),
        (torch.zeros_like(W), X),
        (torch.full_like(W, 0.3), X),
        (torch.full_like(W, -0.3), X),
        (noise(ROWS, 1).expand(ROWS, COLUMNS), X),
        (noise(1, COLUMNS).expand(ROWS, COLUMNS), X),
        (W * 1e-8, X),
        (W * 1e3, X * 1e8),
    ],
    ids=["singular", "silent", "dead channels", "zero", "constant", "negative", "constant rows", "equal rows", "tiny",
         "huge input"],
)  # fmt: skip
def test_degenerate_weights_and_inputs_give_finite_weights_near_the_target(w, x, symmetric, mask):
    kept = torch.zeros_like(W, dtype=torch.bool) if mask == "all" else MASKS[mask or "dense"]
    layer = layer_of(w, mask=kept)
    layer.weight = spqr(layer, seen(x), grid=Grid(3, 8, symmetric=symmetric))
    dense = layer.weight.dense()
    assert torch.isfinite(dense).all()
    assert (layer.weight.base.scales() > 0).all()
    assert dense.norm() <= 3 * max(w.norm(), 1e-3)
    if kept is None:
        assert (dense - w).norm() <= max(0.7 * w.norm(), 1e-3)


def test_a_layer_whose_columns_do_not_vary_has_no_outliers():
    assert spqr(layer_of(torch.full_like(W, 0.3)), seen(X), grid=Grid(3, 8, symmetric=False)).outliers is None


def test_it_fits_what_the_low_rank_term_leaves_over():
    factors = (noise(ROWS, 2, seed=5) * 0.1, noise(2, COLUMNS, seed=6))
    layer, rest = layer_of(W), layer_of(W - factors[0] @ factors[1])
    layer.weight = replace(layer.weight, low_rank=factors)
    found, expected = (spqr(one, seen(X), grid=Grid(3, 8, symmetric=False)) for one in (layer, rest))
    assert torch.equal(found.base.codes, expected.base.codes)
    assert torch.equal(found.outliers.values, expected.outliers.values)
    assert found.low_rank is factors


def test_the_target_is_left_as_it_was():
    layer = layer_of(W.clone())
    spqr(layer, seen(X), grid=Grid(3, 8, symmetric=False))
    assert torch.equal(layer.target, W)


def test_one_scale_for_a_layer_is_refused_before_it_is_opened():
    method = find("spqr")
    shape = LayerShape("fc1", "linear", 96, 96)
    assert "16 would work" in method.refuse(shape, method.options.fill("spqr", {"group_size": "tensor"}))
    assert method.refuse(shape, method.options.fill("spqr", {})) is None
