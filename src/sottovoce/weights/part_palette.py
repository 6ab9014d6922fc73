"""A base of indices into a table of values."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sottovoce.numbers.palette import Palettized
from sottovoce.weights.close import codes_spec, pack_codes, unpack_codes
from sottovoce.weights.description import Description
from sottovoce.weights.part import DTYPE_NAMES, Tensors, WeightPart
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight


def _describe(weight: Weight) -> Mapping[str, Any]:
    base = weight.base
    return {"bits": base.bits, "palette": DTYPE_NAMES[base.table.dtype]} if isinstance(base, Palettized) else {}


def _specs(entry: Description) -> list[Part]:
    assert entry.palette is not None
    assert entry.bits is not None
    return [codes_spec(entry), ("table", entry.palette, (2**entry.bits,))]


def _pack(weight: Weight, entry: Description) -> Tensors:
    assert isinstance(weight.base, Palettized)
    return {"codes": pack_codes(weight.base.codes, weight.base.bits, weight.mask), "table": weight.base.table}


def _unpack(entry: Description, tensors: Mapping[str, Tensor], mask: Tensor | None) -> Palettized:
    if bool((tensors["table"].diff() < 0).any()):
        raise ValueError(f"{entry.tensor}.table does not rise")
    return Palettized(unpack_codes(tensors["codes"], entry, mask), tensors["table"])


PALETTE = WeightPart(
    "palette",
    "base",
    "base",
    _describe,
    lambda entry: entry.palette is not None,
    _specs,
    _pack,
    _unpack,
    lambda entry: f"{entry.bits}-bit palette",
    "codes are indices into a table of values (palettize)",
)
