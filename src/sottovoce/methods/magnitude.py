"""Magnitude pruning: drop the smallest weights.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", 2015,
arXiv:1506.02626. `magnitude` lets the weights of a row (or of a layer) compete, `global_magnitude`
those of all selected layers together, each divided by its layer's root mean square. No data.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import Sparsity
from sottovoce.numbers.sparsity import keep_fraction, keep_n_of_m
from sottovoce.weights.weight import Layer, LayerShape, Weight


def refuse_n_of_m(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    """Why n:m cannot work on a layer: m does not divide its inputs."""
    if isinstance(options["sparsity"], str):
        m = int(options["sparsity"].partition(":")[2])
        if shape.columns % m:
            return (
                f"sparsity {options['sparsity']} needs a multiple of {m} inputs, and {shape.name} has {shape.columns}"
            )
    return None


def keep(score: Tensor, sparsity: float | str, over: str = "row") -> Tensor:
    """The mask that a `sparsity` option asks for: a share of each row or of the layer, or n:m."""
    if isinstance(sparsity, str):
        n, _, m = sparsity.partition(":")
        return keep_n_of_m(score, int(n), int(m))
    if over == "layer":
        return keep_fraction(score.reshape(1, -1), sparsity).reshape(score.shape)
    return keep_fraction(score, sparsity)


@method(scope="layer", owns="mask", refuse=refuse_n_of_m)
def magnitude(
    layer: Layer,
    stats: InputStats,
    *,
    sparsity: Sparsity = 0.5,
    over: Annotated[Literal["row", "layer"], Field(description="what is compared when sparsity is a share")] = "row",
) -> Weight:
    """Drop the smallest weights of each row, or of the layer."""
    return replace(layer.weight, mask=keep(layer.float_base().abs(), sparsity, over))


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
