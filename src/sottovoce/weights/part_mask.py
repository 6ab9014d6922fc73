"""The weights that are kept: 3 bits for each four of a 2:4 mask, else a bit for each."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sottovoce.numbers.packing import is_two_of_four, pack, pack_two_of_four, packed_size, unpack, unpack_two_of_four
from sottovoce.weights.description import Description
from sottovoce.weights.part import Tensors, WeightPart
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight


def _describe(weight: Weight) -> Mapping[str, Any]:
    mask = weight.mask
    return {} if mask is None else {"mask": "2:4" if is_two_of_four(mask) else "bitmap", "kept": int(mask.sum())}


def _specs(entry: Description) -> list[Part]:
    bits, places = (3, entry.columns // 4) if entry.mask == "2:4" else (1, entry.columns)
    return [("mask", "uint8", (entry.rows, packed_size(places, bits)))]


def _pack(weight: Weight, entry: Description) -> Tensors:
    assert weight.mask is not None
    return {"mask": pack_two_of_four(weight.mask) if entry.mask == "2:4" else pack(weight.mask, 1)}


def _unpack(entry: Description, tensors: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
    packed, two_of_four = tensors["mask"], entry.mask == "2:4"
    found = unpack_two_of_four(packed, entry.columns) if two_of_four else unpack(packed, 1, entry.columns).bool()
    if int(found.sum()) != entry.kept:
        raise ValueError(f"{entry.tensor}.mask keeps {int(found.sum())} weights; the table says {entry.kept}")
    return found


def _words(entry: Description) -> str:
    return "2:4" if entry.mask == "2:4" else f"{100 * (1 - entry.kept / entry.weights):.0f} % dropped"


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
