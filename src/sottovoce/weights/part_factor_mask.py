"""The numbers of the right factor that are kept, stored as a mask of the base is: n:m along the inputs, or a bitmap."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sottovoce.weights.description import Description
from sottovoce.weights.part import Tensors, WeightPart
from sottovoce.weights.part_mask import MASK
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight


def right_side(entry: Description, **told: Any) -> Description:
    """The right factor as if it were a layer: a row for each direction, under its mask if it has one."""
    assert entry.rank is not None
    shape = (entry.rank, entry.columns)
    return Description(
        entry.name,
        f"{entry.tensor}.right",
        "linear",
        shape,
        mask=entry.factor_mask,
        kept=entry.factor_kept or 0,
        **told,
    )


def mask_of_right(entry: Description, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """(r, in) bool; None if all is kept."""
    if entry.factor_mask is None:
        return None
    mask: Tensor = MASK.unpack(right_side(entry), {"mask": tensors["right.mask"]}, None)
    return mask


def _describe(weight: Weight) -> Mapping[str, Any]:
    if weight.factor_mask is None:
        return {}
    told = MASK.describe(Weight(None, weight.factor_mask))
    return {"factor_mask": told["mask"], "factor_kept": told["kept"]}


def _specs(entry: Description) -> list[Part]:
    return [(f"right.{suffix}", dtype, shape) for suffix, dtype, shape in MASK.specs(right_side(entry))]


def _pack(weight: Weight, entry: Description) -> Tensors:
    packed = MASK.pack(Weight(None, weight.factor_mask), right_side(entry))
    return {f"right.{suffix}": tensor for suffix, tensor in packed.items()}


FACTOR_MASK = WeightPart(
    "factor_mask",
    "factor_mask",
    "factor_mask",
    _describe,
    lambda entry: entry.factor_mask is not None,
    _specs,
    _pack,
    lambda entry, tensors, mask: mask_of_right(entry, tensors),
    lambda entry: f"right factor {MASK.words(right_side(entry))}",
    "a low-rank part (low_rank, lora) cannot be written beside integers",
)
