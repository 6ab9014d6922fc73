"""Layers and inputs to try a method on."""

import torch

from sottovoce.blocks.basis import Block
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods.rtn import rtn
from sottovoce.weights.weight import Layer, Weight


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_weights(rows, columns, seed=0):
    """(rows, columns) with rows of different sizes and a few large entries."""
    w = noise(rows, columns, seed=seed) * torch.logspace(-1.5, -0.5, rows)[:, None]
    return torch.where(noise(rows, columns, seed=seed + 1) > 2, 3 * w, w)


def some_inputs(vectors, columns, seed=0):
    """(vectors, columns) correlated, with a mean and with channels of unequal size."""
    few = columns // 3
    x = noise(vectors, few, seed=seed) @ noise(few, columns, seed=seed + 1) / few**0.5
    x = x + 0.2 * noise(vectors, columns, seed=seed + 3)
    return (x + 0.5 * noise(columns, seed=seed + 2)) * torch.logspace(-0.7, 0.7, columns)


def layer_of(w, kind="linear", mask=None, name="encoder.layers.0.fc1"):
    return Layer(name, kind, Weight(w, mask), w.clone())


def seen(x):
    stats = InputStats()
    stats.add(x, {"gram", "absmax", "absolute", "attended", "sample"})
    return stats.finish()


def output_error(layer, x):
    """The mean squared difference of what the layer gives for x from what its target would give."""
    return ((layer.weight.dense() - layer.target).double() @ x.double().T).square().mean().item()


def block_of(*layers, x):
    """A block whose layers are each judged by their own output for the inputs x."""
    named = {layer.name: layer for layer in layers}
    apart = {name: seen(x) for name in named}
    return Block([], named, {}, lambda name: None, names=tuple(named), apart=apart)


def errors_beside_rtn(method, **options):
    """The output errors that rounding to nearest leaves and that `method` leaves, each summed over three layers."""
    nearest, learned = 0.0, 0.0
    for seed in range(3):
        x, layer = some_inputs(300, 48, seed), layer_of(some_weights(32, 48, seed))
        layer.weight = rtn(layer, InputStats(), grid=options["grid"])
        nearest += output_error(layer, x)
        method(block_of(layer, x=x), **options)
        learned += output_error(layer, x)
    return nearest, learned
