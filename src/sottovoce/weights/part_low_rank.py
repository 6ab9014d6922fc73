"""Two thin factors whose product is added: left (out, r) and right (r, in)."""

from collections.abc import Mapping
from typing import Any

from sottovoce.weights.description import Description
from sottovoce.weights.part import DTYPE_NAMES, Tensors, WeightPart
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight


def _describe(weight: Weight) -> Mapping[str, Any]:
    if weight.low_rank is None:
        return {}
    left, _ = weight.low_rank
    return {"rank": left.shape[1], "factor_dtype": DTYPE_NAMES[left.dtype]}


def _specs(entry: Description) -> list[Part]:
    assert entry.rank is not None
    assert entry.factor_dtype is not None
    return [
        ("left", entry.factor_dtype, (entry.rows, entry.rank)),
        ("right", entry.factor_dtype, (entry.rank, entry.columns)),
    ]


def _pack(weight: Weight, entry: Description) -> Tensors:
    assert weight.low_rank is not None
    return dict(zip(("left", "right"), weight.low_rank, strict=True))


LOW_RANK = WeightPart(
    "low_rank",
    "low_rank",
    "low_rank",
    _describe,
    lambda entry: entry.rank is not None,
    _specs,
    _pack,
    lambda entry, tensors, mask: (tensors["left"], tensors["right"]),
    lambda entry: f"rank {entry.rank} {entry.factor_dtype}",
    "a low-rank part (low_rank, lora) cannot be written beside integers",
)
