"""The blocks of ggml that hold a grid's levels exactly: 32 integers of 4, 5 or 8 bits and one scale in float16.

An integer is a level counted from its zero, and a weight is that times the scale, as on a grid. So a block holds every
grid whose zero is a level, whose scale is a float16 and whose groups are whole blocks; only the range decides which.
Gerganov, ggml, block_q4_0, block_q5_0 and block_q8_0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sottovoce.numbers.grid import Quantized
from sottovoce.targets.levels import each_row, kept_codes

BLOCK = 32


@dataclass(frozen=True)
class BlockType:
    """One kind of block.

    bits    of an integer, two's complement in its range
    number  of a tensor of such blocks, in a file
    ftype   of a file whose products are of such blocks
    """

    name: str
    bits: int
    number: int
    ftype: int

    @property
    def bytes(self) -> int:
        """Of a block."""
        return 2 + BLOCK * self.bits // 8

    def holds(self, bits: int, symmetric: bool) -> bool:
        """Whether every level of a grid fits, wherever its zero is."""
        lowest = -(2 ** (self.bits - 1))
        if symmetric:
            return bits <= self.bits
        return lowest <= 1 - 2**bits


BLOCK_TYPES = (BlockType("q4_0", 4, 2, 2), BlockType("q5_0", 5, 6, 8), BlockType("q8_0", 8, 8, 7))


def smallest(bits: int, symmetric: bool) -> BlockType | None:
    """The smallest blocks that hold a grid; None if none does."""
    return next((each for each in BLOCK_TYPES if each.holds(bits, symmetric)), None)


def blocks(base: Quantized, mask: Tensor | None, kind: BlockType) -> bytes:
    """The weight as blocks, row after row; what a mask drops is an integer of zero."""
    rows, columns = base.codes.shape
    levels = kept_codes(base, mask).to(torch.int16)
    zeros = base.zeros()
    if zeros is None:
        counted = levels - base.grid.middle
    else:
        counted = levels - _along(each_row(zeros, rows), columns).to(torch.int16)
    integers = counted.reshape(-1, BLOCK)
    scales = _along(each_row(base.scales(), rows), columns // BLOCK).reshape(-1, 1).half()
    head = scales.contiguous().view(torch.uint8)
    return torch.cat([head, _PACKED[kind.bits](integers)], 1).numpy().tobytes()


def _along(values: Tensor, count: int) -> Tensor:
    """(rows, groups) to (rows, count), each as often as its group is wide."""
    return values.repeat_interleave(count // values.shape[1], 1)


def _eight(integers: Tensor) -> Tensor:
    return integers.to(torch.int8).view(torch.uint8)


def _four(integers: Tensor) -> Tensor:
    """The first half of a block in the low four bits, the second above them, both counted from -8."""
    first, second = (integers + 8).to(torch.uint8).split(BLOCK // 2, 1)
    return first | second << 4


def _five(integers: Tensor) -> Tensor:
    """The fifth bits of all 32, counted from -16, then the lower four as `_four` has them."""
    levels = (integers + 16).to(torch.uint8)
    places = 1 << torch.arange(8)
    fifth = ((levels >> 4).reshape(-1, BLOCK // 8, 8) * places).sum(2).to(torch.uint8)
    first, second = (levels & 15).split(BLOCK // 2, 1)
    return torch.cat([fifth, first | second << 4], 1)


_PACKED = {4: _four, 5: _five, 8: _eight}
