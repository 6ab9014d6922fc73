"""The weights that are kept: a number for each m neighbours of an n:m mask (3 bits for 2:4), else a bit for each."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sottovoce.numbers.n_of_m import Pattern, pack_n_of_m, pattern_of, unpack_n_of_m
from sottovoce.numbers.packing import pack, packed_size, unpack
from sottovoce.weights.description import Description
from sottovoce.weights.part import Tensors, WeightPart
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight

_BITMAP = "bitmap"


def _describe(weight: Weight) -> Mapping[str, Any]:
    mask = weight.mask
    return {} if mask is None else {"mask": str(pattern_of(mask) or _BITMAP), "kept": int(mask.sum())}


def _pattern(entry: Description) -> Pattern | None:
    """The pattern that the table names; None for a bitmap."""
    assert entry.mask is not None
    return None if entry.mask == _BITMAP else Pattern.of(entry.mask)


def _specs(entry: Description) -> list[Part]:
    pattern = _pattern(entry)
    size = packed_size(entry.columns, 1) if pattern is None else pattern.row_bytes(entry.columns)
    return [("mask", "uint8", (entry.rows, size))]


def _pack(weight: Weight, entry: Description) -> Tensors:
    assert weight.mask is not None
    pattern = _pattern(entry)
    return {"mask": pack(weight.mask, 1) if pattern is None else pack_n_of_m(weight.mask, pattern)}


def _unpack(entry: Description, tensors: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
    packed, pattern = tensors["mask"], _pattern(entry)
    if pattern is None:
        found = unpack(packed, 1, entry.columns).bool()
    else:
        found = unpack_n_of_m(packed, entry.columns, pattern)
    if int(found.sum()) != entry.kept:
        raise ValueError(f"{entry.tensor}.mask keeps {int(found.sum())} weights; the table says {entry.kept}")
    return found


def _words(entry: Description) -> str:
    return f"{100 * (1 - entry.kept / entry.weights):.0f} % dropped" if entry.mask == _BITMAP else str(entry.mask)


MASK = WeightPart(
    "mask",
    "mask",
    "mask",
    _describe,
    lambda entry: entry.mask is not None,
    _specs,
    _pack,
    _unpack,
    _words,
    "a sparsity mask",
)
