"""The integers a weight may become, and the way there and back.

A level is an unsigned integer 0 .. 2^bits - 1; the weight it stands for is (level - zero) * scale.
On a symmetric grid zero is the middle level 2^(bits-1) and level 0 stays unused, so that -w and w
are both on the grid (at 2 bits that leaves -1, 0, 1). On an asymmetric grid each group has its own
zero level, and zero itself is always exactly representable, which masks rely on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sottovoce.numbers.scales import Scales, as_floats, scales_of_rows

SCALE_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Grid:
    """How finely a weight is rounded, and over what its scale is shared.

    `group_size` is a number of neighbouring inputs of one output row, "channel" for a whole row or
    "tensor" for the whole matrix.
    """

    bits: int = 4
    group_size: int | Literal["channel", "tensor"] = "channel"
    symmetric: bool = True
    scale_dtype: torch.dtype = torch.float16

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be 2 to 8, found {self.bits}")
        if isinstance(self.group_size, int) and self.group_size < 1:
            raise ValueError(f"group_size must be a positive number of inputs, found {self.group_size}")
        if isinstance(self.group_size, str) and self.group_size not in ("channel", "tensor"):
            raise ValueError(f'group_size must be a number, "channel" or "tensor", found {self.group_size!r}')

    @property
    def levels(self) -> int:
        """The number of levels that a code may name."""
        return 2**self.bits

    @property
    def lowest(self) -> int:
        """The lowest level in use."""
        return 1 if self.symmetric else 0

    @property
    def middle(self) -> int:
        """The level of zero on a symmetric grid."""
        return 2 ** (self.bits - 1)

    def grouped(self, w: Tensor) -> Tensor:
        """`w` (out, in) seen as (rows, groups, size): one scale for each row and group."""
        if self.group_size == "tensor":
            return w.reshape(1, 1, -1)
        if self.group_size == "channel":
            return w.reshape(len(w), 1, -1)
        return w.reshape(len(w), -1, self.group_size)


def check_groups(group_size: int | str | None, columns: int, name: str) -> None:
    """Raise ValueError if groups of that size do not divide the `columns` inputs of layer `name`."""
    if isinstance(group_size, int) and columns % group_size:
        works = [n for n in (16, 32, 36, 48, 52, 64, 96, 128, 256) if columns % n == 0]
        named = " and ".join(map(str, works)) + " do" if works else "none of the usual sizes does"
        raise ValueError(
            f"group_size {group_size} does not divide the {columns} inputs of {name}; {named}, "
            'and "channel" always fits'
        )


@dataclass(frozen=True)
class Quantized:
    """A weight on a grid.

    codes       (out, in) uint8 levels
    scale       (rows, groups) grid.scale_dtype, positive; rows is 1 for a grid per tensor
    zero_point  (rows, groups) uint8 levels, or grid.scale_dtype where the method fits a fractional
                zero (HQQ); None if the grid is symmetric

    Scales and fractional zeros may be rounded themselves (SpQR). `scales` and `zeros` are their numbers either way.
    """

    codes: Tensor
    scale: Scales
    zero_point: Scales | None
    grid: Grid

    @property
    def bits(self) -> int:
        """Of a level."""
        return self.grid.bits

    def scales(self) -> Tensor:
        """(rows, groups) float32."""
        return as_floats(self.scale)

    def zeros(self) -> Tensor | None:
        """(rows, groups) float32; None if the grid is symmetric."""
        return None if self.zero_point is None else as_floats(self.zero_point)

    def dense(self) -> Tensor:
        """(out, in) float32, from the stored tensors only."""
        levels = self.grid.grouped(self.codes.float())
        return ((levels - self.zero_levels()) * self.scales()[..., None]).reshape(self.codes.shape)

    def zero_levels(self) -> Tensor | int:
        """(rows, groups, 1) float32, or the one level of zero of a symmetric grid."""
        zero = self.zeros()
        return self.grid.middle if zero is None else zero[..., None]

    def levels(self, w: Tensor) -> Tensor:
        """(rows, groups, size): where the weights of `w` (out, in) lie on the grid before they are rounded."""
        return self.grid.grouped(w) / self.scales()[..., None] + self.zero_levels()

    def like(self, w: Tensor) -> "Quantized":
        """The weight on the same grid that is nearest to `w` (out, in) float32."""
        return replace(self, codes=to_codes(w, self.scales(), self.zeros(), self.grid))

    def inside(self, w: Tensor) -> Tensor:
        """(out, in) bool: where a weight of `w` lies within half a level of the grid's ends."""
        levels = self.levels(w)
        return ((levels > self.grid.lowest - 0.5) & (levels < self.grid.levels - 0.5)).reshape(w.shape)

    def take_rows(self, rows: Tensor) -> "Quantized":
        """The weights of those rows; a scale of the whole matrix stays."""
        if self.grid.group_size == "tensor":
            return replace(self, codes=self.codes[rows])
        zero = None if self.zero_point is None else scales_of_rows(self.zero_point, rows)
        return Quantized(self.codes[rows], scales_of_rows(self.scale, rows), zero, self.grid)

    def to(self, device: str) -> "Quantized":
        """The same with its tensors on a device."""
        zero = None if self.zero_point is None else self.zero_point.to(device)
        return Quantized(self.codes.to(device), self.scale.to(device), zero, self.grid)


def fit_scale(w: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
    """The scale and zero point that let each group of `w` reach both ends of the grid.

    w           (out, in) float32
    scale       (rows, groups) grid.scale_dtype, positive
    zero_point  (rows, groups) uint8; None if the grid is symmetric

    The scale is rounded to its stored dtype here, before any code is chosen, so the codes fit the
    number the runtime will multiply by. Raises ValueError for NaN or values beyond the scale's range.
    """
    groups = grid.grouped(w)
    high, low = groups.amax(-1).clamp(min=0), groups.amin(-1).clamp(max=0)
    if grid.symmetric:
        return stored_scale(torch.maximum(high, -low) / (grid.middle - 1), grid.scale_dtype), None
    scale = stored_scale((high - low) / (grid.levels - 1), grid.scale_dtype)
    zero = (-low / scale.float()).round().clamp(0, grid.levels - 1)
    return scale, zero.to(torch.uint8)


def stored_scale(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """`scale` in the dtype it is stored in; a scale that would vanish becomes the smallest normal number."""
    stored = scale.to(dtype)
    if not torch.isfinite(stored).all():
        found = scale.max().item()
        raise ValueError(
            f"a scale of {found:.3g} cannot be stored as {str(dtype).removeprefix('torch.')}; "
            "bfloat16 and float32 reach further, and a weight that is not finite fits no grid"
        )
    return torch.where(stored > 0, stored, torch.finfo(dtype).tiny)


def to_codes(w: Tensor, scale: Tensor, zero_point: Tensor | None, grid: Grid) -> Tensor:
    """(out, in) uint8: the level nearest to each weight under a given scale and zero point."""
    zero = grid.middle if zero_point is None else zero_point.float()[..., None]
    levels = (grid.grouped(w) / scale.float()[..., None] + zero).round()
    return levels.clamp(grid.lowest, grid.levels - 1).to(torch.uint8).reshape(w.shape)


def round_to_grid(
    w: Tensor, grid: Grid, fit: Callable[[Tensor, Grid], tuple[Tensor, Tensor | None]] = fit_scale
) -> Quantized:
    """Round-to-nearest with the scales and zero points that `fit` finds."""
    scale, zero_point = fit(w, grid)
    return Quantized(to_codes(w, scale, zero_point, grid), scale, zero_point, grid)
