from dataclasses import replace

import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods.magnitude import global_magnitude, magnitude
from sottovoce.weights.weight import Weight
from tests.methods.samples import layer_of, noise, some_weights
from tests.reference import wanda as slow

W = some_weights(12, 48)


def pruned(w, **options):
    return magnitude(layer_of(w), InputStats(), **options).mask


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77])
def test_each_row_loses_its_smallest_weights(sparsity):
    assert torch.equal(pruned(W, sparsity=sparsity), torch.cat([slow.magnitude([row[None]], sparsity)[0] for row in W]))


@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.9])
def test_over_the_layer_one_threshold_serves_all_rows(sparsity):
    mask = pruned(W, sparsity=sparsity, over="layer")
    assert torch.equal(mask, slow.magnitude([W], sparsity)[0])
    assert len(set(mask.sum(1).tolist())) > 1


def test_n_of_m_keeps_the_largest_neighbours():
    assert torch.equal(pruned(W, sparsity="2:4"), slow.n_of_m(W.abs(), 2, 4))


def several_layers():
    shapes = {"a": (8, 24), "b": (5, 7), "c": (16, 12)}
    return {
        name: layer_of(noise(*shape, seed=i) * 10 ** (i - 1), name=name)
        for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("sparsity", [0.05, 0.3, 0.5, 0.95])
def test_over_all_layers_one_threshold_in_each_layers_own_rms_serves_all(sparsity):
    layers = several_layers()
    targets = [layer.target / layer.target.square().mean().sqrt() for layer in layers.values()]
    global_magnitude(None, layers, None, sparsity=sparsity)
    masks = [layer.weight.mask for layer in layers.values()]
    for mask, expected in zip(masks, slow.magnitude(targets, sparsity), strict=True):
        assert torch.equal(mask, expected)
    total = sum(mask.numel() for mask in masks)
    assert sum(int((~mask).sum()) for mask in masks) == int(total * sparsity)


def test_a_layer_counts_alike_in_any_unit():
    layers, louder = several_layers(), several_layers()
    louder["b"] = layer_of(louder["b"].target * 1024)
    for some in (layers, louder):
        global_magnitude(None, some, None, sparsity=0.4)
    assert torch.equal(layers["b"].weight.mask, louder["b"].weight.mask)


def test_a_layer_of_zeros_goes_first():
    layers = several_layers()
    layers["b"] = layer_of(torch.zeros(5, 7))
    global_magnitude(None, layers, None, sparsity=35 / (35 + 8 * 24 + 16 * 12) + 1e-6)
    assert [int(layer.weight.mask.sum()) for layer in layers.values()] == [8 * 24, 0, 16 * 12]


def test_only_the_mask_changes():
    factors = (noise(12, 2), noise(2, 48))
    layer = layer_of(W)
    layer.weight = replace(layer.weight, low_rank=factors)
    found = magnitude(layer, InputStats())
    assert found.base is layer.weight.base
    assert found.low_rank is factors


def test_factors_that_replaced_the_base_leave_nothing_to_prune():
    layer = layer_of(W)
    layer.weight = Weight(None, None, (noise(12, 2), noise(2, 48)))
    with pytest.raises(ValueError, match=r"encoder.layers.0.fc1 has no base to prune"):
        magnitude(layer, InputStats())
