import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.rtn import rtn
from sottovoce.methods.slim_quant import best_cap, slim_quant
from sottovoce.numbers.grid import Grid
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, noise
from tests.reference import clipping as slow


def heavy_tailed(rows, columns, seed=0):
    chi = sum(noise(rows, columns, seed=100 * seed + i).square() for i in (1, 2, 3, 4))
    return 0.05 * noise(rows, columns, seed=seed) / (chi / 4).sqrt()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_range_is_within_a_hundredth_of_the_best_there_is(bits, seed):
    w = heavy_tailed(30, 40, seed)
    values, largest = w.flatten().tolist(), w.abs().max().item()
    best = min(slow.slim_error(values, largest * i / 400, bits) for i in range(4, 401))
    assert slow.slim_error(values, best_cap(w, bits), bits) <= 1.01 * best


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_error_is_below_that_of_the_whole_range_and_of_its_authors_search(bits):
    w = heavy_tailed(64, 96)
    ours, whole = layer_of(w), layer_of(w)
    ours.weight = slim_quant(ours, InputStats(), grid=Grid(bits, "tensor"))
    whole.weight = rtn(whole, InputStats(), grid=Grid(bits, "tensor"))
    errors = [(layer.weight.dense() - w).square().sum().item() for layer in (ours, whole)]
    assert errors[0] < 0.9 * errors[1]
    assert errors[0] <= 1.01 * slow.slim_error(w.flatten().tolist(), authors_cap(w, bits), bits)


def authors_cap(w, bits):
    """The range that minimises the histogram error of the paper's code: levels rounded down, 2^bits below the cap."""
    counts, edges = torch.histogram(w.abs().flatten(), bins=512)
    centres = (edges[:-1] + edges[1:]) / 2
    losses = []
    for i in range(1, 512):
        alpha, step = centres[i], centres[i] / 2**bits
        inside = (counts[:i] * (centres[:i] - centres[:i] // step * step).square()).sum()
        losses.append(float(inside + (counts[i:] * (centres[i:] - alpha).square()).sum()))
    return centres[1 + losses.index(min(losses))].item()


def test_dropped_weights_have_no_say_and_stay_zero():
    w = heavy_tailed(16, 24)
    mask = w.abs() > w.abs().median()
    layer = layer_of(w, mask=mask)
    layer.weight = slim_quant(layer, InputStats(), grid=Grid(4, "tensor"))
    assert (layer.weight.dense()[~mask] == 0).all()
    assert layer.weight.base.scale.item() == pytest.approx(best_cap(w[mask], 4) / 7, rel=1e-3)
    assert layer.weight.base.scale.shape == (1, 1)


@pytest.mark.parametrize("mask", [None, torch.zeros(4, 8, dtype=torch.bool)])
def test_a_layer_of_zeros_is_rounded_to_zeros(mask):
    layer = layer_of(torch.zeros(4, 8), mask=mask)
    layer.weight = slim_quant(layer, InputStats(), grid=Grid(4, "tensor"))
    assert torch.equal(layer.weight.dense(), torch.zeros(4, 8))


def test_its_default_is_one_scale_and_another_grid_is_refused():
    method, shape = find("slim_quant"), LayerShape("fc1", "linear", 8, 64)
    assert method.refuse(shape, method.options.fill("slim_quant", {})) is None
    for given in ({"group_size": 32}, {"symmetric": False}):
        assert "group_size: tensor would work" in method.refuse(shape, method.options.fill("slim_quant", given))
