"""Rounding one input column after the other to a grid: what a column becomes, and when a group's scale is fitted.

Frantar et al., 2022, arXiv:2210.17323, algorithm 1; columns.py spreads the errors.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sottovoce.numbers.clipping import Fit
from sottovoce.numbers.columns import Reach
from sottovoce.numbers.grid import Grid, Quantized, fit_scale


class GridColumns:
    """The codes of a weight, column by column.

    w              (out, in) float32, as the first scales are fitted to it
    order          (in,) int64: the columns in the order in which they settle
    kept           (in, out) bool in that order, True = kept; None if all are. It is looked at when a column settles
                   and when a group is reached, so it may be filled in on the way
    static_groups  keep the first scales; otherwise those of a group of columns are fitted when it is reached
    """

    def __init__(
        self,
        w: Tensor,
        grid: Grid,
        order: Tensor,
        kept: Tensor | None = None,
        *,
        static_groups: bool = False,
        fit: Fit = fit_scale,
    ) -> None:
        self.grid, self.order, self.kept, self.fit = grid, order, kept, fit
        self.scale, self.zero_point = fit(w, grid)
        self.size = grid.group_size if isinstance(grid.group_size, int) else w.shape[1]
        self.group_of = (order // self.size).tolist()
        self.codes = torch.empty_like(w.T, dtype=torch.uint8, memory_format=torch.contiguous_format)
        self.reaches: Sequence[tuple[int, Reach]] = ()
        if isinstance(grid.group_size, int) and not static_groups:
            self.reaches = [(self.size, self._reach)]

    def settle(self, i: int, column: Tensor) -> Tensor:
        """The nearest levels to column (out,) as numbers; 0 where it is dropped."""
        s = self.scale[:, self.group_of[i]].float()
        z = self.grid.middle if self.zero_point is None else self.zero_point[:, self.group_of[i]].float()
        level = (column / s + z).round_().clamp_(self.grid.lowest, self.grid.levels - 1)
        self.codes[i] = level
        rounded = (level - z) * s
        return rounded if self.kept is None else rounded * self.kept[i]

    def quantized(self) -> Quantized:
        """The weight, its columns in their places."""
        steps = torch.arange(len(self.order), device=self.order.device)
        place = torch.empty_like(self.order).scatter_(0, self.order, steps)
        return Quantized(self.codes[place].T.contiguous(), self.scale, self.zero_point, self.grid)

    def _reach(self, i: int, ahead: Tensor) -> None:
        """Fit the scales of the group that begins at i to `ahead` (size, out), as far as it is kept."""
        ahead = ahead if self.kept is None else ahead * self.kept[i : i + self.size]
        fitted, zeros = self.fit(ahead.T, replace(self.grid, group_size="channel"))
        self.scale[:, self.group_of[i]] = fitted[:, 0]
        if zeros is not None and self.zero_point is not None:
            self.zero_point[:, self.group_of[i]] = zeros[:, 0]
