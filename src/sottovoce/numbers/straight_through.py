"""Rounding that can be learned through: the values of a grid forward, useful gradients backward.

The gradient passes straight through a rounding and stops at the ends of the grid (Bengio, Leonard, Courville,
2013, arXiv:1308.3432); a scale's gradient is then that of Esser et al., 2019, arXiv:1902.08153, equation 3.
"""

from typing import Any

import torch
from torch import Tensor

from sottovoce.numbers.grid import Grid, stored_scale


def straight(value: Tensor, learned: Tensor) -> Tensor:
    """`value` forward, the gradient of `learned` backward."""
    return value.detach() + (learned - learned.detach())  # the difference is exactly 0


def scale_of_range(low: Tensor, high: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
    """The scale and zero level that let each group reach from `low` to `high`, differentiable in both.

    low, high   (rows, groups) float32, at most and at least 0
    scale       (rows, groups) float32, with the value that grid.scale_dtype stores
    zero_point  (rows, groups) float32 whole levels; None if the grid is symmetric
    Of the whole range of a group they are those of `fit_scale`.
    """
    reach = torch.maximum(high, -low) / (grid.middle - 1) if grid.symmetric else (high - low) / (grid.levels - 1)
    scale = straight(stored_scale(reach.detach(), grid.scale_dtype).to(reach.dtype), reach)
    if grid.symmetric:
        return scale, None
    place = -low / scale
    return scale, straight(place.detach().round().clamp(0, grid.levels - 1), place)


def rounded(w: Tensor, scale: Tensor, zero_point: Tensor | None, offset: Tensor | None, grid: Grid) -> Tensor:
    """(out, in) float32: `w` on its grid, differentiable in all four.

    w           (out, in), its dtype that of all others
    scale       (rows, groups) positive; zero_point the same shape, None if the grid is symmetric
    offset      (out, in) levels added before the rounding: 0.5 more rounds up what would be rounded down; None for 0
    """
    zero = torch.full_like(scale, grid.middle).detach() if zero_point is None else zero_point
    groups = grid.grouped(w)
    moved = None if offset is None else offset.view_as(groups)
    found: Tensor = _Rounded.apply(groups, scale[..., None], zero[..., None], moved, grid.lowest, grid.levels - 1)  # type: ignore[no-untyped-call]
    return found.reshape(w.shape)


def levels_of(w: Tensor, scale: Tensor, zero_point: Tensor | None, offset: Tensor | None, grid: Grid) -> Tensor:
    """(out, in) uint8: the levels that `rounded` rounds to."""
    zero: Tensor | int = grid.middle if zero_point is None else zero_point[..., None]
    groups = grid.grouped(w)
    place = _place(groups, scale[..., None], zero, None if offset is None else offset.view_as(groups))
    return place.round().clamp(grid.lowest, grid.levels - 1).to(torch.uint8).reshape(w.shape)


def _place(groups: Tensor, scale: Tensor, zero: Tensor | int, offset: Tensor | None) -> Tensor:
    place = groups / scale + zero
    return place if offset is None else place + offset


class _Rounded(torch.autograd.Function):
    """One pass over the weights forward and one backward: written out, it takes a third of autograd's time."""

    @staticmethod
    def forward(
        ctx: Any, groups: Tensor, scale: Tensor, zero: Tensor, offset: Tensor | None, lowest: int, highest: int
    ) -> Tensor:
        place = _place(groups, scale, zero, offset).round_()
        level = place.clamp(lowest, highest)
        inside = level == place
        steps = level.sub_(zero)
        ctx.save_for_backward(groups, scale, inside, steps)
        return steps * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        groups, scale, inside, steps = ctx.saved_tensors
        to_groups, to_scale, to_zero, to_offset, *_ = ctx.needs_input_grad
        within = gradient * inside
        of_scale = of_zero = None
        if to_scale:
            # outside, w / scale may be infinite
            share = steps - torch.where(inside, groups / scale, 0.0)
            of_scale = (gradient * share).sum(-1, keepdim=True)
        if to_zero:
            of_zero = (within - gradient).sum(-1, keepdim=True) * scale
        return within if to_groups else None, of_scale, of_zero, within * scale if to_offset else None, None, None
