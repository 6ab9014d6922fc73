"""Outlier Suppression+: shift every channel to the middle of its range, then scale down those beyond a threshold.

Wei, Zhang, Li, Zhang, Gong, Guo, Liu, "Outlier Suppression+: Accurate quantization of large language models by
equivalent and optimal shifting and scaling", 2023, arXiv:2304.09145, equations 4 to 9: z = (max + min) / 2 goes into
the norm's bias and its readers', s = max(1, max / t, -min / t) into its gain and their columns. The threshold t is
the one after which, weights and activations rounded, the readers' outputs have the least error on a sample of what
they read; the official code runs the whole attention instead for its three projections, and tries thresholds down to
1, which suits activations of large language models: here they are shares of the largest magnitude. A quantizer and
integer activations come after.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.blocks.basis import Block, biases_missing
from sottovoce.methods import method
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import indifferent_layers
from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.numbers.rounding import Rounding, found_scale

_VECTORS = 256  # of the sample; more find the same threshold

ActivationBits = Annotated[int, Field(ge=2, le=8, description="bits of an activation in the search")]
ActivationPer = Annotated[
    Literal["token", "tensor"], Field(description="activations that share a scale in the search: a vector, or all")
]
ActivationSymmetric = Annotated[bool, Field(description="symmetric activation grid around zero in the search")]
Shift = Annotated[
    Literal["always", "where_possible", "never"],
    Field(description="move channels where norm and readers have biases; always: refuse where they lack one"),
]


def refuse_shift(method: str, model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    """Which norms and layers lack the bias that `method` needs for a shift everywhere."""
    if options["shift"] != "always":
        return None
    indifferent = indifferent_layers(model.stacks)
    missing: dict[str, None] = {}
    for site in (site for stack in model.stacks for unit in stack.units for site in unit.sites):
        if site.writer is not None and site.writer not in model.shapes and set(site.readers) <= set(names):
            missing |= dict.fromkeys(biases_missing(site, model.shapes, model.find, indifferent))
    if not missing:
        return None
    first = ", ".join(list(missing)[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return f"{method}: shift: always needs biases that {first} lack; shift: where_possible would work"


@method(
    scope="block",
    owns="basis",
    needs=frozenset({"total", "low", "high", "sample"}),
    after_norms=True,
    refuse_model=partial(refuse_shift, "osplus"),
)
def osplus(
    block: Block,
    *,
    grid: Grid,
    activation_bits: ActivationBits = 8,
    activation_per: ActivationPer = "token",
    activation_symmetric: ActivationSymmetric = True,
    candidates: Annotated[int, Field(ge=1, le=1000, description="thresholds tried, the largest magnitude first")] = 100,
    shift: Shift = "where_possible",
) -> None:
    """Shift and scale every site that a norm writes, for rounding on this grid and these activations."""
    rounding = Rounding(activation_bits, activation_per, activation_symmetric)
    for site in block.sites:
        if shift != "never" and block.can_shift(site):
            stats = block.stats[site.name]
            assert stats.high is not None
            assert stats.low is not None
            block.shift(site, (stats.high + stats.low) / 2)
        stats = block.stats[site.name]
        assert stats.high is not None
        assert stats.low is not None
        assert stats.sample is not None
        magnitude = torch.maximum(stats.high, -stats.low)
        weights = [block.layers[name].target for name in site.readers]
        x = stats.sample[:: -(-len(stats.sample) // _VECTORS)]
        s = best_scale(weights, x, magnitude, grid, rounding, candidates)
        if bool((s != 1).any()):
            block.rescale(site, s)


def best_scale(
    weights: Sequence[Tensor], x: Tensor, magnitude: Tensor, grid: Grid, rounding: Rounding, candidates: int
) -> Tensor:
    """The s (in,) of the threshold that leaves the least output error of `weights`, (out, in) each.

    x           (n, in) some of what they read
    magnitude   (in,) the largest |x| of each channel
    """
    w = torch.cat(list(weights))
    largest = float(magnitude.max())
    wanted = x @ w.T
    best, least = torch.ones_like(magnitude), torch.inf
    for i in range(candidates if largest > 0 else 0):
        s = (magnitude / (largest * (1 - i / candidates))).clamp(min=1.0)
        error = float((rounded(x / s, magnitude / s, rounding) @ _rounded(weights, s, grid).T - wanted).square().sum())
        if error < least:
            best, least = s, error
    return best


def rounded(x: Tensor, magnitude: Tensor, rounding: Rounding) -> Tensor:
    """(n, in) on the grid of the activations, whose fixed range is the largest magnitude."""
    if rounding.per == "token":
        return rounding(x)
    top = magnitude.max()
    scale, zero = found_scale(-top, top, rounding.bits, rounding.symmetric)
    return Rounding(rounding.bits, "tensor", rounding.symmetric, scale, zero)(x)


def _rounded(weights: Sequence[Tensor], s: Tensor, grid: Grid) -> Tensor:
    return torch.cat([round_to_grid(w * s, grid).dense() for w in weights])
