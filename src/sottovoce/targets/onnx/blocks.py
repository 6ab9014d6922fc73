"""A coded weight as MatMulNBits of ONNX Runtime reads it, and back.

Rows of blocks of 16 to 256 neighbouring inputs, in 2, 4 or 8 bits, first code in the lowest bits; a scale and a zero
level for each block. A group that is longer than a block becomes several with one scale, which changes no weight.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from sottovoce.numbers.grid import Grid, Quantized
from sottovoce.numbers.packing import pack, unpack
from sottovoce.targets.levels import each_row, fractional, kept_codes

SMALLEST, LARGEST, OF_A_ROW = 16, 256, 128


@dataclass(frozen=True)
class Blocks:
    """The weight (rows, columns) in blocks; the last block of a row may reach beyond its columns.

    blob   (rows, blocks, size * bits / 8) uint8
    scale  (rows, blocks) float32
    zero   (rows, ceil(blocks * bits / 8)) uint8 levels, packed as the codes are; (rows, blocks) float32 where a zero is
           no whole level; None where it is the middle level
    """

    blob: Tensor
    scale: Tensor
    zero: Tensor | None
    columns: int
    bits: int
    size: int

    def codes(self) -> Tensor:
        """(rows, columns) uint8, as they were."""
        rows, count, width = self.blob.shape
        return unpack(self.blob.reshape(rows, count * width), self.bits, count * self.size)[:, : self.columns]

    def zeros(self) -> Tensor:
        """(rows, blocks) float32."""
        if self.zero is None:
            return torch.full_like(self.scale, 2.0 ** (self.bits - 1))
        if self.zero.dtype == torch.uint8:
            return unpack(self.zero, self.bits, self.scale.shape[1]).float()
        return self.zero

    def dense(self) -> Tensor:
        """(rows, columns) float32: what the runtime multiplies by, before it rounds what it multiplies."""
        scale, zero = (each.repeat_interleave(self.size, 1)[:, : self.columns] for each in (self.scale, self.zeros()))
        return (self.codes().float() - zero) * scale


def container_bits(bits: int) -> int:
    """The width in which ONNX Runtime keeps a code of `bits`."""
    return next(width for width in (2, 4, 8) if width >= bits)


def block_size(grid: Grid, columns: int) -> int | None:
    """The longest block in which a row of the grid has one scale; None if that is too short for the runtime."""
    whole = not isinstance(grid.group_size, int)
    length = columns if whole else int(grid.group_size)
    size = min(length & -length, OF_A_ROW if whole else LARGEST)  # the largest power of two that divides it
    if size >= SMALLEST:
        return size
    return SMALLEST * 2 if whole else None


def to_blocks(base: Quantized, mask: Tensor | None = None) -> Blocks:
    """The same levels in blocks; what `mask` (rows, columns) does not keep lies at zero.

    Raises ValueError for groups that are too short, and for a mask on a grid without a level at zero.
    """
    rows, columns = base.codes.shape
    size = block_size(base.grid, columns)
    if size is None:
        raise ValueError(f"groups of {base.grid.group_size} inputs; ONNX Runtime's blocks have {SMALLEST} or more")
    bits, count = container_bits(base.bits), -(-columns // size)
    blob = pack(pad(kept_codes(base, mask), (0, count * size - columns)), bits).reshape(rows, count, -1)
    scale, zeros = _each_block(each_row(base.scales(), rows), count), base.zeros()
    zero: Tensor | None = None
    if zeros is not None:
        zero = _each_block(each_row(zeros, rows), count)
    elif base.grid.middle != 2 ** (bits - 1):
        zero = torch.full_like(scale, float(base.grid.middle))
    if zero is not None and not fractional(base):
        zero = pack(zero.to(torch.uint8), bits)
    return Blocks(blob, scale, zero, columns, bits, size)


def _each_block(values: Tensor, count: int) -> Tensor:
    """(rows, groups) to (rows, count): a group's value for each of its blocks."""
    return values.repeat_interleave(-(-count // values.shape[1]), 1).contiguous()
