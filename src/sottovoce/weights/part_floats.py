"""A base of floats, in the checkpoint's dtype."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sottovoce.weights.close import spread
from sottovoce.weights.description import Description
from sottovoce.weights.part import DTYPE_NAMES, Tensors, WeightPart
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight


def _describe(weight: Weight) -> Mapping[str, Any]:
    return {"dtype": DTYPE_NAMES[weight.base.dtype]} if isinstance(weight.base, Tensor) else {}


def _specs(entry: Description) -> list[Part]:
    assert entry.dtype is not None
    return [("values", entry.dtype, (entry.kept,) if entry.mask else (entry.rows, entry.columns))]


def _pack(weight: Weight, entry: Description) -> Tensors:
    assert isinstance(weight.base, Tensor)
    return {"values": weight.base if weight.mask is None else weight.base[weight.mask]}


FLOATS = WeightPart(
    "floats",
    "base",
    None,
    _describe,
    lambda entry: entry.dtype is not None,
    _specs,
    _pack,
    lambda entry, tensors, mask: spread(tensors["values"], entry, mask),
    lambda entry: str(entry.dtype),
    "weights in float",
)
