"""Integers to bytes and back, without a wasted bit.

A packed row is the binary number of its codes, first code in the lowest bits, in little-endian
bytes: a row of n codes of b bits takes ceil(n * b / 8) bytes, for every b from 1 to 32.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ROWS_AT_ONCE = 2**24  # bits spread to one byte each while packing


def packed_size(columns: int, bits: int) -> int:
    """The bytes of one packed row of `columns` codes."""
    return -(-columns * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """(rows, columns) integers below 2^bits -> (rows, ceil(columns * bits / 8)) uint8."""
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < 2**bits:
        raise ValueError(f"codes {int(codes.min())} to {int(codes.max())} do not fit in {bits} bits")
    if bits == 8:
        return codes.to(torch.uint8).cpu().clone(memory_format=torch.contiguous_format)
    rows, columns = codes.shape
    packed = np.empty((rows, packed_size(columns, bits)), np.uint8)
    places = np.arange(bits, dtype=np.uint8)
    for part in _row_slices(rows, columns * bits):
        numbers = codes[part].to(_number_dtype(bits)).cpu().numpy()
        spread = ((numbers[..., None] >> places) & 1).astype(np.uint8, copy=False)  # (rows, columns, bits)
        packed[part] = np.packbits(spread.reshape(len(numbers), columns * bits), axis=1, bitorder="little")
    return torch.from_numpy(packed)


def unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    """(rows, bytes) uint8 -> (rows, columns) uint8, int64 for more than 8 bits: the inverse of `pack`."""
    rows = len(packed)
    if packed.shape[1] != packed_size(columns, bits):
        raise ValueError(
            f"{columns} codes of {bits} bits take {packed_size(columns, bits)} bytes a row, found {packed.shape[1]}"
        )
    if bits == 8:
        return packed.cpu().clone(memory_format=torch.contiguous_format)
    dtype = np.uint8 if bits <= 8 else np.int64
    codes = np.empty((rows, columns), dtype)
    weights: NDArray[Any] = (1 << np.arange(bits)).astype(dtype)
    for part in _row_slices(rows, columns * bits):
        spread = np.unpackbits(packed[part].cpu().numpy(), axis=1, count=columns * bits, bitorder="little")
        codes[part] = (spread.reshape(len(spread), columns, bits) * weights).sum(-1, dtype=dtype)
    return torch.from_numpy(codes)


def _number_dtype(bits: int) -> torch.dtype:
    return torch.uint8 if bits <= 8 else torch.int64


def _row_slices(rows: int, bits_in_row: int) -> list[slice]:
    step = max(1, _ROWS_AT_ONCE // max(1, bits_in_row))
    return [slice(i, i + step) for i in range(0, rows, step)]
