"""GPTQ: round one input column at a time and let the columns not yet rounded absorb its error.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", 2022, arXiv:2210.17323, algorithm 1. The error is measured on the layer's
own inputs through their Gram matrix. A dropped weight is a column entry that rounds to zero, so the
kept weights also repair the mask's damage; scales come from the kept weights alone.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.numbers.clipping import Fit, fit_by_weights
from sottovoce.numbers.columns import settle_columns
from sottovoce.numbers.grid import Grid, Quantized, fit_scale
from sottovoce.numbers.grid_columns import GridColumns
from sottovoce.numbers.linalg import inverse_factor
from sottovoce.weights.weight import Layer, LayerShape, Weight

# the look-up weighs as much as the head: with 0.1, 2 bits of a tied embedding cost 5 points of WER more (docs/log.md)
_TIED_DAMP = 1.0


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if options["act_order"] and isinstance(options["group_size"], int) and not options["static_groups"]:
        return "gptq with act_order visits inputs out of order, so groups must be fixed before: set static_groups: true"
    return None


@method(scope="layer", owns="base", needs=frozenset({"gram"}), refuse=_refuse)
def gptq(
    layer: Layer,
    stats: InputStats,
    *,
    grid: Grid,
    damp: Annotated[
        float, Field(gt=0, le=100, description="share of the mean diagonal added to the Gram matrix")
    ] = 0.01,
    tied_damp: Annotated[
        float,
        Field(
            gt=0,
            le=100,
            description="the same for a tied embedding, because the head's Gram matrix ignores its look-up",
        ),
    ] = _TIED_DAMP,
    act_order: Annotated[bool, Field(description="quantize the inputs of largest energy first (act-order)")] = False,
    static_groups: Annotated[bool, Field(description="fix every group's scale before the first rounding")] = False,
    clip: Annotated[
        Literal["none", "mse"], Field(description="a narrower range for each group: of least error of the weights")
    ] = "none",
    block_size: Annotated[int, Field(ge=1, description="columns per lazy update of the rest (block size)")] = 128,
) -> Weight:
    """Round what the base should imitate, under the layer's mask if it has one."""
    assert stats.gram is not None
    gram = stats.gram / stats.count
    factor_damp = tied_damp if layer.kind == "embedding" else damp
    order = (
        gram.diagonal().argsort(descending=True, stable=True)
        if act_order
        else torch.arange(len(gram), device=gram.device)
    )
    factor = inverse_factor(gram[order][:, order], factor_damp)
    target = layer.left_for_base()
    quantized = round_by_columns(
        target,
        factor,
        grid,
        order=order,
        mask=layer.weight.mask,
        static_groups=static_groups,
        block_size=block_size,
        fit=fit_by_weights if clip == "mse" else fit_scale,
    )
    return layer.with_base(quantized)


def round_by_columns(
    w: Tensor,
    factor: Tensor,
    grid: Grid,
    *,
    order: Tensor,
    mask: Tensor | None = None,
    static_groups: bool = False,
    block_size: int = 128,
    fit: Fit = fit_scale,
) -> Quantized:
    """Algorithm 1 of the paper over the columns of `w` (out, in) in `order` (in,).

    factor (in, in) is the upper inverse factor of the Gram matrix in that same order. Without static
    groups a group's scale is fitted by `fit` when its first column is reached, to the columns as updated by then.
    """
    inputs = w[:, order].T.contiguous()  # (in, out): what is read one by one lies together
    kept = None if mask is None else mask[:, order].T.contiguous()
    columns = GridColumns(w if mask is None else w * mask, grid, order, kept, static_groups=static_groups, fit=fit)
    settle_columns(inputs, factor, columns.settle, block_size=block_size, reaches=columns.reaches)
    return columns.quantized()
