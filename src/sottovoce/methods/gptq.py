"""GPTQ: round one input column at a time and let the columns not yet rounded absorb its error.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", 2022, arXiv:2210.17323, algorithm 1. The error is measured on the layer's
own inputs through their Gram matrix. A dropped weight is a column entry that rounds to zero, so the
kept weights also repair the mask's damage; scales come from the kept weights alone.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.methods import method
from sottovoce.numbers.grid import Grid, Quantized, fit_scale, to_codes
from sottovoce.numbers.linalg import inverse_factor
from sottovoce.stats import InputStats
from sottovoce.weight import Layer, LayerShape, Weight

# the look-up weighs as much as the head: with 0.1, 2 bits of a tied embedding cost 5 points of WER more (LOG.md)
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
            description="the same for an embedding, whose look-up the head's Gram matrix ignores",
        ),
    ] = _TIED_DAMP,
    act_order: Annotated[bool, Field(description="round the inputs of largest energy first")] = False,
    static_groups: Annotated[bool, Field(description="fix every group's scale before the first rounding")] = False,
    block_size: Annotated[int, Field(ge=1, description="columns between two updates of all the rest")] = 128,
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
) -> Quantized:
    """Algorithm 1 of the paper over the columns of `w` (out, in) in `order` (in,).

    factor (in, in) is the upper inverse factor of the Gram matrix in that same order. Without static
    groups a group's scale is fitted when its first column is reached, to the columns as updated by then.
    """
    columns = w.shape[1]
    kept = torch.ones_like(w, dtype=torch.bool) if mask is None else mask
    w, kept = w[:, order].clone(), kept[:, order]
    grows = isinstance(grid.group_size, int) and not static_groups
    place = torch.empty_like(order).scatter_(0, order, torch.arange(columns, device=order.device))
    scale, zero_point = fit_scale((w * kept)[:, place], grid)
    size = grid.group_size if isinstance(grid.group_size, int) else columns
    row_grid = Grid(grid.bits, "channel", grid.symmetric, grid.scale_dtype)
    codes = torch.empty_like(w, dtype=torch.uint8)
    group_of = (order // size).tolist()

    for start in range(0, columns, block_size):
        stop = min(start + block_size, columns)
        errors = torch.zeros_like(w[:, start:stop])
        for i in range(start, stop):
            group = group_of[i]
            if grows and i % size == 0:
                # columns of this group beyond the block still lack this block's errors: apply them now
                ahead = w[:, i : i + size].clone()
                if i + size > stop:
                    ahead[:, stop - i :] -= errors[:, : i - start] @ factor[start:i, stop : i + size]
                fitted, zeros = fit_scale(ahead * kept[:, i : i + size], row_grid)
                scale[:, group] = fitted[:, 0]
                if zeros is not None and zero_point is not None:
                    zero_point[:, group] = zeros[:, 0]
            s = scale[:, group : group + 1].expand(len(w), 1)
            z = None if zero_point is None else zero_point[:, group : group + 1].expand(len(w), 1)
            column = w[:, i : i + 1]
            code = to_codes(column, s, z, row_grid)
            rounded = Quantized(code, s, z, row_grid).dense() * kept[:, i : i + 1]
            codes[:, i] = code[:, 0]
            error = (column - rounded) / factor[i, i]
            w[:, i + 1 : stop] -= error * factor[i, i + 1 : stop]
            errors[:, i - start] = error[:, 0]
        w[:, stop:] -= errors @ factor[start:stop, stop:]
    return Quantized(codes[:, place], scale, zero_point, grid)
