"""Block-diagonal matrices on both sides of the masked base, as floats: their blocks and nothing between them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sottovoce.weights.description import Description
from sottovoce.weights.part import DTYPE_NAMES, Tensors, WeightPart
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight
from sottovoce.weights.wrappers import Wrappers


def _describe(weight: Weight) -> Mapping[str, Any]:
    found = weight.wrappers
    return {} if found is None else {"wrapper_size": found.size, "wrapper_dtype": DTYPE_NAMES[found.outer.dtype]}


def _specs(entry: Description) -> list[Part]:
    size, dtype = entry.wrapper_size, entry.wrapper_dtype
    assert size is not None
    assert dtype is not None
    sides = (("outer", entry.rows), ("inner", entry.columns))
    return [(side, dtype, (length // size, size, size)) for side, length in sides]


def _pack(weight: Weight, entry: Description) -> Tensors:
    assert weight.wrappers is not None
    return {"outer": weight.wrappers.outer, "inner": weight.wrappers.inner}


def _unpack(entry: Description, tensors: Mapping[str, Tensor], mask: Tensor | None) -> Wrappers:
    return Wrappers(tensors["outer"], tensors["inner"])


WRAPPERS = WeightPart(
    "wrappers",
    "wrappers",
    "wrappers",
    _describe,
    lambda entry: entry.wrapper_size is not None,
    _specs,
    _pack,
    _unpack,
    lambda entry: f"between blocks of {entry.wrapper_size} {entry.wrapper_dtype}",
    "block-diagonal products before and behind a weight (armor) have no operator",
)
