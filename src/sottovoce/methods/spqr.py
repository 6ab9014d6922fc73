"""SpQR: tiny groups on scales that are rounded themselves, and the weights that no scale fits kept as floats.

Dettmers, Svirschevski, Egiazarian, Kuznedelev, Frantar, Ashkboos, Borzunov, Hoefler, Alistarh, "SpQR: A
Sparse-Quantized Representation for Near-Lossless LLM Weight Compression", 2023, arXiv:2306.03078, algorithm 1.
GPTQ's sweep; a weight is an outlier if rounding it costs the layer's output more than a share of what the layer's
weights are worth on average. A group's range is fitted without those that would cost less if they stood apart.

The threshold does not know the bits: at 2 bits its default keeps about a tenth of the weights, for 32 bits each.

Two things differ from the authors' code. With act_order they group the inputs in the order of their energy, which a
runtime must undo; here a group is of neighbours, groups are visited in the order of their energy and inputs in that
order within their group. And a range always holds zero, so that a zero point is a level, rounded or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import FactorDtype, GridOptions, dtype_of
from sottovoce.numbers.columns import settle_columns
from sottovoce.numbers.grid import Grid, Quantized, stored_scale
from sottovoce.numbers.linalg import inverse_factor
from sottovoce.numbers.scales import RoundedScales, Scales, as_floats, round_scales
from sottovoce.numbers.sparse import Sparse
from sottovoce.weights.weight import Layer, LayerShape, Weight

SecondBits = Annotated[int, Field(ge=1, le=8)] | Literal["none"]


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if options["group_size"] == "tensor":
        return "spqr fits a scale for each row; group_size: tensor has one for all, and 16 would work"
    return None


@method(scope="layer", owns="base", needs=frozenset({"gram"}), refuse=_refuse)
def spqr(
    layer: Layer,
    stats: InputStats,
    *,
    grid: Annotated[Grid, GridOptions(group_size=16, symmetric=False)],
    outlier_threshold: Annotated[
        Annotated[float, Field(gt=0)] | Literal["none"],
        Field(
            description="outlier threshold, as a share of the mean variance of an input's weights; none: no outliers"
        ),
    ] = 0.2,
    scale_bits: Annotated[SecondBits, Field(description="bits of the quantized scales; none: scales stay floats")] = 3,
    zero_bits: Annotated[
        SecondBits, Field(description="bits of the quantized zero points; none: they stay floats")
    ] = 3,
    scale_rows: Annotated[
        int, Field(ge=1, description="neighbouring output rows that share the grid of their scales")
    ] = 16,
    dtype: FactorDtype = "float16",
    damp: Annotated[
        float, Field(gt=0, le=100, description="share of the mean diagonal added to the Gram matrix")
    ] = 1.0,
    act_order: Annotated[
        bool, Field(description="quantize groups of largest energy first, and inputs within them (act-order)")
    ] = True,
    block_size: Annotated[int, Field(ge=1, description="columns per lazy update of the rest (block size)")] = 128,
) -> Weight:
    """Round what the base should imitate, under the layer's mask if it has one; scales of any number of rows fit."""
    assert stats.gram is not None
    gram = stats.gram / stats.count
    order = energetic_groups(gram.diagonal(), grid) if act_order else torch.arange(len(gram), device=gram.device)
    factor = inverse_factor(gram[order][:, order], damp)
    target, mask = layer.left_for_base(), layer.weight.mask
    threshold = torch.inf
    if outlier_threshold != "none":
        threshold = outlier_threshold * mean_worth(target[:, order], factor, None if mask is None else mask[:, order])
    second = SecondOrder(
        None if scale_bits == "none" else scale_bits, None if zero_bits == "none" else zero_bits, scale_rows
    )
    base, outliers = round_with_outliers(
        target,
        factor,
        grid,
        second,
        order=order,
        threshold=threshold,
        dtype=dtype_of(dtype),
        mask=mask,
        block_size=block_size,
    )
    return layer.with_base(base, outliers)


@dataclass(frozen=True)
class SecondOrder:
    """The bits of scales and of zero points that are rounded themselves, None for floats; the rows of one line."""

    scale_bits: int | None = 3
    zero_bits: int | None = 3
    rows: int = 16


def energetic_groups(energy: Tensor, grid: Grid) -> Tensor:
    """(in,) int64: the inputs by falling `energy` (in,), group after group by falling energy of the group."""
    size = grid.group_size if isinstance(grid.group_size, int) else len(energy)
    groups = energy.reshape(-1, size)
    first = groups.sum(1).argsort(descending=True, stable=True)
    return (first[:, None] * size + groups.argsort(dim=1, descending=True, stable=True)[first]).flatten()


def mean_worth(w: Tensor, factor: Tensor, mask: Tensor | None) -> float:
    """The mean over inputs of the variance of their kept weights in `w` (out, in), in units of the output's error.

    Infinite if no input's weights differ: such a layer has no outliers.
    """
    kept = torch.ones_like(w) if mask is None else mask.to(w.dtype)
    count = kept.sum(0)
    mean = (w * kept).sum(0) / count.clamp(min=1)
    variance = ((w - mean) * kept).square().sum(0) / (count - 1).clamp(min=1)
    worth = float((variance / factor.diagonal().square()).mean())
    return worth if worth > 0 else torch.inf


def round_with_outliers(
    w: Tensor,
    factor: Tensor,
    grid: Grid,
    second: SecondOrder,
    *,
    order: Tensor,
    threshold: float,
    dtype: torch.dtype,
    mask: Tensor | None = None,
    block_size: int = 128,
) -> tuple[Quantized, Sparse | None]:
    """Algorithm 1 of the paper over the columns of `w` (out, in) in `order` (in,), in which groups lie together.

    factor     (in, in) upper inverse factor of the Gram matrix in that same order
    threshold  of the squared error of one weight over the square of its input's diagonal of `factor`
    dtype      of the outliers
    """
    inputs = w[:, order].T.contiguous()  # (in, out)
    kept = torch.ones_like(inputs, dtype=torch.bool) if mask is None else mask[:, order].T.contiguous()
    size = grid.group_size if isinstance(grid.group_size, int) else len(inputs)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    codes = torch.empty_like(inputs, dtype=torch.uint8)
    values, far = torch.zeros_like(inputs), torch.zeros_like(kept)
    group_of = (order // size).tolist()
    fitted: dict[int, tuple[Scales, Scales | None]] = {}  # by group
    scale = zero = inputs[0]  # (out,) of the group that settles

    def fit(i: int, ahead: Tensor) -> None:
        here = slice(i, i + size)
        spared = savings(ahead, kept[here], factor.diagonal()[here], grid) > threshold
        fitted[group_of[i]] = scales, zeros = fit_group(ahead * (kept[here] & ~spared), grid, second)
        nonlocal scale, zero
        scale = as_floats(scales)[:, 0]
        zero = torch.full_like(scale, grid.middle) if zeros is None else as_floats(zeros)[:, 0]

    def settle(i: int, column: Tensor) -> Tensor:
        level, rounded = nearest(column, scale, zero, grid)
        far[i] = kept[i] & (((column - rounded) / factor[i, i]).square() > threshold)
        values[i] = column
        stored = column.to(dtype).to(column.dtype)
        codes[i] = torch.where(far[i], nearest(stored, scale, zero, grid)[0], level)
        return torch.where(far[i], stored, rounded) * kept[i]

    settle_columns(inputs, factor, settle, block_size=block_size, reaches=[(size, fit)])
    groups = [fitted[group] for group in range(len(fitted))]
    zero_points = [zeros for _, zeros in groups if zeros is not None]
    zero_point = side_by_side(zero_points) if zero_points else None
    base = Quantized(codes[place].T.contiguous(), side_by_side([scales for scales, _ in groups]), zero_point, grid)
    return base, Sparse.at(far[place].T, values[place].T, dtype)


def savings(group: Tensor, kept: Tensor, diagonal: Tensor, grid: Grid) -> Tensor:
    """(size, out): how much less it would cost to round the inputs `group` (size, out), were each left out alone.

    kept      (size, out) bool: what has a say
    diagonal  (size,) of the inverse factor: the cost is the sum of squares of error over diagonal

    A weight that is no end of its row's range saves its own cost; the two that are let the others round finer.
    """

    def costs(among: Tensor) -> Tensor:
        s, z = _range(group * among, grid)
        return ((nearest(group, s, z, grid)[1] - group) / diagonal[:, None]).square() * among

    found = whole = costs(kept)
    for end in ((group * kept).argmax(0), (group * kept).argmin(0)):
        others = kept.scatter(0, end[None], False)
        found = found.scatter(0, end[None], (whole.sum(0) - costs(others).sum(0))[None])
    return found


def fit_group(group: Tensor, grid: Grid, second: SecondOrder) -> tuple[Scales, Scales | None]:
    """The scale and zero point (out, 1) of the inputs `group` (size, out), as they are stored."""
    first, zero = (part[:, None] for part in _range(group, grid))
    stored, line = stored_scale(first, grid.scale_dtype), second.scale_bits
    scale = stored if line is None else round_scales(stored.float(), line, second.rows, grid.scale_dtype)
    if grid.symmetric:
        return scale, None
    # a level of the range itself, whatever its scale became: both ends lose the same share
    if second.zero_bits is None:
        return scale, zero.to(grid.scale_dtype)
    return scale, round_scales(zero.float(), second.zero_bits, second.rows, grid.scale_dtype)


def nearest(w: Tensor, scale: Tensor, zero: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The levels nearest to `w` (..., out) and what they stand for; scale and zero (out,)."""
    level = (w / scale + zero).round().clamp(grid.lowest, grid.levels - 1)
    return level, (level - zero) * scale


def side_by_side(parts: Sequence[Scales]) -> Scales:
    """The scales or zero points of all groups, from those of each."""
    if isinstance(parts[0], Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)], 1)
    return parts[0].beside([part for part in parts[1:] if isinstance(part, RoundedScales)])


def _range(group: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The scale and zero point (out,) under which `group` (size, out) and 0 reach both ends of the grid."""
    high, low = group.amax(0).clamp(min=0), group.amin(0).clamp(max=0)
    tiny = torch.finfo(torch.float32).tiny
    if grid.symmetric:
        scale = torch.maximum(high, -low) / (grid.middle - 1)
        return scale.clamp(min=tiny), torch.full_like(scale, grid.middle)
    scale = ((high - low) / (grid.levels - 1)).clamp(min=tiny)
    return scale, -low / scale
