"""Magnitude pruning: drop the smallest weights.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", 2015,
arXiv:1506.02626. `magnitude` lets the weights of a row (or of a layer) compete, `global_magnitude`
those of all selected layers together, each divided by its layer's root mean square. No data.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import Sparsity
from sottovoce.methods.sparsity import Over, keep, refuse_n_of_m, sparsity_of
from sottovoce.numbers.sparsity import keep_fraction
from sottovoce.weights.weight import Layer, Weight


@method(scope="layer", owns="mask", refuse=refuse_n_of_m)
def magnitude(layer: Layer, stats: InputStats, *, sparsity: Sparsity = 0.5, over: Over = "row") -> Weight:
    """Drop the smallest weights of each row, or of the layer."""
    return replace(layer.weight, mask=keep(layer.float_base().abs(), sparsity_of(layer, sparsity), over))


@method(scope="model", owns="mask")
def global_magnitude(
    model: object,
    layers: Mapping[str, Layer],
    material: object,
    *,
    sparsity: Annotated[
        float, Field(gt=0, lt=1, description="the share of weights dropped over all selected layers")
    ] = 0.3,
) -> None:
    """Drop the smallest weights of all selected layers together, measured in each layer's own RMS."""
    scores = {name: _relative_size(layer.float_base()) for name, layer in layers.items()}
    everything = torch.cat([score.flatten() for score in scores.values()])
    kept = keep_fraction(everything[None], sparsity)[0]
    for (name, score), mask in zip(scores.items(), kept.split([s.numel() for s in scores.values()]), strict=True):
        layers[name].weight = replace(layers[name].weight, mask=mask.reshape(score.shape))


def _relative_size(w: Tensor) -> Tensor:
    return w.abs() / w.square().mean().sqrt().clamp(min=1e-30)
