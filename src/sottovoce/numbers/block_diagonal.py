"""Products with block-diagonal matrices, which are held as their blocks alone: (blocks, size, size)."""

import torch
from torch import Tensor


def block_rows(x: Tensor, size: int) -> Tensor:
    """(rows, columns) as (blocks, size, columns): what each block of a matrix to the left multiplies."""
    return x.reshape(-1, size, x.shape[1])


def block_columns(x: Tensor, size: int) -> Tensor:
    """(rows, columns) as (blocks, rows, size): what each block of a matrix to the right multiplies."""
    return x.reshape(len(x), -1, size).transpose(0, 1)


def times_left(blocks: Tensor, x: Tensor) -> Tensor:
    """A @ x (rows, columns), of A with those `blocks`."""
    return torch.bmm(blocks, block_rows(x, blocks.shape[1])).reshape(x.shape)


def times_right(x: Tensor, blocks: Tensor) -> Tensor:
    """x (rows, columns) @ B, of B with those `blocks`."""
    return torch.bmm(block_columns(x, blocks.shape[1]), blocks).transpose(0, 1).reshape(x.shape)
