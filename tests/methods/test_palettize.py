from dataclasses import replace

import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.palettize import beyond, palettize
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from sottovoce.numbers.palette import k_means
from tests.methods.samples import layer_of, noise, output_error, seen, some_inputs, some_weights
from tests.reference import palette as slow

W = noise(24, 32) * 0.1
X = some_inputs(300, 32)
NONE = InputStats()


def heavy(rows=24, columns=32, seed=0):
    """A normal distribution with one weight in fifty far from the rest."""
    w = noise(rows, columns, seed=seed) * 0.1
    return torch.where(noise(rows, columns, seed=seed + 1) > 2.05, 10 * w, w)


@pytest.mark.parametrize("sigma", [1.0, 3.0, "none"])
@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
def test_near_weights_are_the_nearest_of_the_table_and_far_ones_themselves(bits, sigma):
    w = heavy()
    found = palettize(layer_of(w), NONE, bits=bits, sigma=sigma)
    distance = (w - w.mean()).abs()
    far = torch.zeros_like(w, dtype=torch.bool) if sigma == "none" else distance > sigma * w.std(correction=0)
    assert found.base.bits == bits
    assert found.base.table.shape == (2**bits,)
    assert found.base.table.dtype == torch.float16
    assert (found.base.table.float().diff() >= 0).all()
    assert (found.outliers is None) == (not far.any())
    assert found.outliers is None or torch.equal(found.outliers.positions(), far)
    table, dense = found.base.table.tolist(), found.dense()
    for value, kept, stays in zip(w.flatten().tolist(), dense.flatten().tolist(), far.flatten(), strict=True):
        expected = float(torch.tensor(value).half()) if stays else table[slow.nearest(value, table)]
        assert kept == expected


def test_the_table_is_that_of_the_near_weights_alone():
    w = heavy()
    found = palettize(layer_of(w), NONE, bits=3)
    far = found.outliers.positions()
    assert 0.005 < far.float().mean() < 0.1
    assert torch.equal(found.base.table, k_means(w[~far], 8).half())
    assert found.base.table.float().abs().max() < 0.5


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_it_comes_nearer_than_levels_of_equal_distance_with_as_many_bits(bits):
    w = heavy()
    nearest = rtn(layer_of(w), NONE, grid=Grid(bits, "tensor", symmetric=False)).dense()
    alone, with_outliers = (palettize(layer_of(w), NONE, bits=bits, sigma=sigma).dense() for sigma in ("none", 3.0))
    errors = [(dense - w).square().sum() for dense in (nearest, alone, with_outliers)]
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.7 * errors[1]


def test_weighing_inputs_brings_the_outputs_nearer():
    loudness = torch.logspace(-1, 1, 32)
    w, x = W / loudness, noise(300, 32, seed=2) * loudness  # loud inputs have small weights, as smoothing leaves them
    plain, weighed = layer_of(w), layer_of(w)
    plain.weight = palettize(plain, NONE, bits=3)
    weighed.weight = palettize(weighed, seen(x), bits=3, weigh_inputs=True)
    assert output_error(weighed, x) < 0.5 * output_error(plain, x)


def test_it_needs_data_only_to_weigh_inputs():
    method = find("palettize")
    assert method.needs(method.options.fill("palettize", {})) == frozenset()
    assert method.needs(method.options.fill("palettize", {"weigh_inputs": True})) == {"square"}


@pytest.mark.parametrize("weigh_inputs", [False, True])
def test_dropped_weights_are_zero_and_have_no_say(weigh_inputs):
    mask = noise(24, 32, seed=7) > 0
    one, two = layer_of(W, mask=mask), layer_of(torch.where(mask, W, 100.0), mask=mask)
    found = [palettize(layer, seen(X), bits=3, sigma=2, weigh_inputs=weigh_inputs) for layer in (one, two)]
    assert torch.equal(found[0].base.table, found[1].base.table)
    assert torch.equal(found[0].dense(), found[1].dense())
    assert (found[0].dense()[~mask] == 0).all()
    assert not (found[0].outliers.positions() & ~mask).any()
    assert found[0].mask is mask


DEGENERATE = {
    "zero": torch.zeros(6, 8),
    "constant": torch.full((6, 8), 0.3),
    "constant rows": noise(6, 1).expand(6, 8),
    "two values": noise(6, 8).sign(),
    "tiny": noise(6, 8) * 1e-6,
    "one weight": torch.zeros(6, 8).index_put((torch.tensor(2), torch.tensor(3)), torch.tensor(5.0)),
}


@pytest.mark.parametrize("masked", ["none", "some", "all"])
@pytest.mark.parametrize("weigh_inputs", [False, True])
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_weights_are_finite_and_few_values_exact(kind, weigh_inputs, masked):
    w, mask = DEGENERATE[kind], {"none": None, "some": noise(6, 8, seed=3) > 0, "all": noise(6, 8) > 99}[masked]
    silent = seen(torch.zeros(20, 8))
    found = palettize(layer_of(w, mask=mask), silent, bits=4, weigh_inputs=weigh_inputs)
    expected = w if mask is None else w * mask
    torch.testing.assert_close(found.dense(), expected, rtol=1e-3, atol=1e-6)
    assert masked != "all" or found.outliers is None


def test_what_is_far_is_measured_from_the_mean_of_what_is_kept():
    w = torch.cat([torch.full((1, 99), 5.0) + noise(1, 99) * 0.1, torch.zeros(1, 1)], 1)
    whole = torch.ones_like(w, dtype=torch.bool)
    assert beyond(w, whole, 3.0).nonzero().tolist() == [[0, 99]]
    whole[0, 99] = False
    assert not beyond(w, whole, 4.0).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_table_and_outliers_are_stored_as_they_are_asked(dtype):
    found = palettize(layer_of(heavy()), NONE, bits=3, dtype=dtype)
    assert found.base.table.dtype == found.outliers.values.dtype == getattr(torch, dtype)


def test_a_weight_that_its_dtype_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"cannot be stored as float16; .*float32"):
        palettize(layer_of(W * 1e7), NONE)
    assert torch.isfinite(palettize(layer_of(W * 1e7), NONE, dtype="bfloat16").dense()).all()


def test_it_imitates_what_the_low_rank_term_leaves_over():
    factors = (noise(24, 2, seed=5) * 0.1, noise(2, 32, seed=6))
    layer, rest = layer_of(W), layer_of(W - factors[0] @ factors[1])
    layer.weight = replace(layer.weight, low_rank=factors)
    found = palettize(layer, NONE)
    assert torch.equal(found.base.codes, palettize(rest, NONE).base.codes)
    assert found.low_rank is factors


def test_two_runs_give_the_same_and_leave_the_target():
    layer = layer_of(W.clone())
    assert torch.equal(palettize(layer, NONE).dense(), palettize(layer, NONE).dense())
    assert torch.equal(layer.target, W)


def test_a_table_of_one_value_or_of_more_than_a_byte_names_is_refused():
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"palettize: bits={bits}"):
            find("palettize").options.fill("palettize", {"bits": bits})
    with pytest.raises(ValueError, match="palettize: sigma=0"):
        find("palettize").options.fill("palettize", {"sigma": 0})


def test_large_layers_take_seconds():
    w = some_weights(4000, 384)
    found = palettize(layer_of(w), NONE, bits=8)
    assert ((found.dense() - w).square().mean() / w.square().mean()).item() < 1e-4
