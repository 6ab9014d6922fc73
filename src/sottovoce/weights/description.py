"""What a layer is made of, in words that a file of JSON can hold; sizes follow from it (table.py)."""

from dataclasses import dataclass
from math import prod
from typing import Literal

from sottovoce.weights.path_table import InputEntry, RoundingEntry
from sottovoce.weights.weight import Kind


@dataclass(frozen=True)
class Description:
    """What the table of an artifact says of one layer: the shape of its weight, what it is made of, what was done.

    shape      the module's weight shape; rows and columns are its matrix
    dtype      of a float base; None where the base is coded or absent
    bits, group_size, symmetric, scale_dtype
               the grid; bits None where the base is float or absent
    zero       "integer" levels, "fractional" in scale_dtype, None on a symmetric grid
    scale_bits, zero_bits, scale_rows
               of scales and fractional zeros that are rounded themselves, on lines that scale_rows rows share
    palette    the dtype of the table whose places the codes are, without a grid; None on a grid
    outliers   values in the base's place that the mask keeps, None without, in outlier_dtype
    mask       "2:4" or another n:m, "bitmap", or None; kept counts the weights it keeps
    rank       of the low-rank term, None without one; its factors are in factor_dtype, or else on a grid:
    factor_bits, factor_group_size, factor_symmetric, factor_scale_dtype
               of both factors, whose rows of codes are the directions; zeros are levels where it is not symmetric
    factor_mask  of the right factor, as mask is of the base; factor_kept counts what it keeps
    wrapper_size  rows and columns of a block of the block-diagonal matrices around the base, in wrapper_dtype
    input      what happens at run time to what it reads; None where nothing does
    output     the grid on which the cache holds what it puts out
    steps      what was done, in order
    """

    name: str
    tensor: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str | None = None
    bits: int | None = None
    group_size: int | Literal["channel", "tensor"] | None = None
    symmetric: bool | None = None
    scale_dtype: str | None = None
    zero: Literal["integer", "fractional"] | None = None
    scale_bits: int | None = None
    zero_bits: int | None = None
    scale_rows: int | None = None
    palette: str | None = None
    outliers: int | None = None
    outlier_dtype: str | None = None
    mask: str | None = None
    kept: int = 0
    rank: int | None = None
    factor_dtype: str | None = None
    factor_bits: int | None = None
    factor_group_size: int | Literal["channel"] | None = None
    factor_symmetric: bool | None = None
    factor_scale_dtype: str | None = None
    factor_mask: str | None = None
    factor_kept: int | None = None
    wrapper_size: int | None = None
    wrapper_dtype: str | None = None
    input: InputEntry | None = None
    output: RoundingEntry | None = None
    steps: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Outputs."""
        return self.shape[0]

    @property
    def columns(self) -> int:
        """Inputs; a convolution's times its kernel."""
        return prod(self.shape[1:])

    @property
    def weights(self) -> int:
        """Weights before any mask."""
        return prod(self.shape)

    @property
    def inputs(self) -> int:
        """Channels of what it reads: a convolution's columns are these times its kernel."""
        return self.shape[1]

    @property
    def plain(self) -> bool:
        """Whether the layer is one ordinary float tensor."""
        return self.dtype is not None and all(
            part is None for part in (self.mask, self.rank, self.outliers, self.wrapper_size)
        )

    def scale_shape(self) -> tuple[int, int]:
        """(rows, groups) of the scales."""
        if self.group_size == "tensor":
            return 1, 1
        if isinstance(self.group_size, int):
            return self.rows, self.columns // self.group_size
        return self.rows, 1
