"""Codes and values as they are stored: row by row, or under a mask only those that it keeps, close together."""

import torch
from torch import Tensor

from sottovoce.numbers.packing import pack, packed_size, unpack
from sottovoce.weights.description import Description
from sottovoce.weights.path_table import Part


def codes_spec(entry: Description) -> Part:
    """The tensor of a coded base's codes."""
    assert entry.bits is not None
    if entry.mask:
        return "codes", "uint8", (packed_size(entry.kept, entry.bits),)
    return "codes", "uint8", (entry.rows, packed_size(entry.columns, entry.bits))


def pack_codes(codes: Tensor, bits: int, mask: Tensor | None) -> Tensor:
    """(out, in) levels, packed."""
    codes = codes.cpu()
    return pack(codes, bits) if mask is None else pack(codes[mask.cpu()][None], bits)[0]


def unpack_codes(packed: Tensor, entry: Description, mask: Tensor | None) -> Tensor:
    """(out, in) levels; a dropped one is 0."""
    assert entry.bits is not None
    if mask is None:
        return unpack(packed, entry.bits, entry.columns)
    return spread(unpack(packed[None], entry.bits, entry.kept)[0], entry, mask)


def spread(values: Tensor, entry: Description, mask: Tensor | None) -> Tensor:
    """(out, in) with the kept values in their places and 0 elsewhere: the mask hides it."""
    if mask is None:
        return values
    return torch.zeros(entry.rows, entry.columns, dtype=values.dtype).masked_scatter_(mask, values)
