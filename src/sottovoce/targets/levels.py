"""The levels, scales and zeros of a coded weight as runtimes take them: nothing shared, and a mask as zeros."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sottovoce.numbers.grid import Quantized


def fractional(base: Quantized) -> bool:
    """Whether a zero of the grid lies between levels."""
    zeros = base.zeros()
    return zeros is not None and not torch.equal(zeros, zeros.round())


def kept_codes(base: Quantized, mask: Tensor | None) -> Tensor:
    """(rows, columns) uint8: the codes, with the level of zero where `mask` keeps nothing.

    Raises ValueError for a mask on a grid without a level at zero.
    """
    if mask is None:
        return base.codes
    if fractional(base):
        raise ValueError("a sparsity mask on a grid that has no exact zero")
    rows, columns = base.codes.shape
    zeros = base.zeros()
    there = torch.full((rows, 1), float(base.grid.middle)) if zeros is None else each_row(zeros, rows)
    return torch.where(mask, base.codes, there.repeat_interleave(columns // there.shape[1], 1).to(torch.uint8))


def bytes_of(tensor: Tensor, *halves: torch.dtype) -> Sequence[bytes]:
    """The bytes of a tensor, after those of it in each narrower float that holds it exactly."""
    kept = [*(tensor.to(half) for half in halves if torch.equal(tensor.to(half).float(), tensor)), tensor]
    return [each.contiguous().view(torch.uint8).numpy().tobytes() for each in kept]


def each_row(values: Tensor, rows: int) -> Tensor:
    """(rows, groups) of scales or zeros that all rows may share."""
    return torch.broadcast_to(values, (rows, values.shape[1]))
