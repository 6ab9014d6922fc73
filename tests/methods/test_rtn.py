import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.gptq import gptq
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from tests.methods.samples import layer_of, output_error, seen, some_inputs, some_weights


@pytest.mark.parametrize(("clip", "needs"), [("none", set()), ("mse", set()), ("output", {"gram"})])
def test_only_clipping_by_output_looks_at_data(clip, needs):
    method = find("rtn")
    assert method.needs(method.options.fill("rtn", {"clip": clip})) == needs


@pytest.mark.parametrize("bits", [2, 3])
def test_clipping_by_output_leaves_less_error_of_the_output_than_by_weights_and_both_less_than_none(bits):
    x = some_inputs(200, 24)
    errors = {}
    for clip in ("none", "mse", "output"):
        layer = layer_of(some_weights(32, 24))
        layer.weight = rtn(layer, seen(x), grid=Grid(bits, 8), clip=clip)
        errors[clip] = output_error(layer, x)
    assert errors["output"] < errors["mse"] < errors["none"]


def test_a_clipped_grid_under_a_mask_leaves_zeros():
    mask = some_weights(8, 24, seed=5) > 0
    layer = layer_of(some_weights(8, 24), mask=mask)
    layer.weight = rtn(layer, InputStats(), grid=Grid(3, 8, symmetric=False), clip="mse")
    assert (layer.weight.dense()[~mask] == 0).all()


@pytest.mark.parametrize("size", [8, "channel"])
def test_gptq_takes_clipped_ranges_for_every_group(size):
    x = some_inputs(200, 24)
    layers = [layer_of(some_weights(32, 24)) for _ in range(2)]
    for layer, clip in zip(layers, ("none", "mse"), strict=True):
        layer.weight = gptq(layer, seen(x), grid=Grid(2, size), clip=clip)
    assert (layers[1].weight.base.scale <= layers[0].weight.base.scale.amax()).all()
    assert layers[1].weight.base.scale.float().mean() < 0.9 * layers[0].weight.base.scale.float().mean()
    assert output_error(layers[1], x) < output_error(layers[0], x)


def test_a_channel_without_weights_stays_without():
    w = some_weights(4, 24)
    w[2] = 0
    for clip in ("mse", "output"):
        layer = layer_of(w.clone())
        layer.weight = rtn(layer, seen(torch.zeros(10, 24)), grid=Grid(3), clip=clip)
        assert torch.isfinite(layer.weight.dense()).all()
        assert (layer.weight.dense()[2] == 0).all()
