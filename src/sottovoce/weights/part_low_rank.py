"""Two thin factors whose product is added: left (out, r) and right (r, in), as floats or each on a grid.

Under a mask of its own (part_factor_mask.py) the right factor is stored as a base is: what is kept lies close together.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sottovoce.numbers.grid_options import grid_as_options
from sottovoce.weights.close import spread
from sottovoce.weights.description import Description
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.part import DTYPE_NAMES, Tensors, WeightPart
from sottovoce.weights.part_factor_mask import mask_of_right, right_side
from sottovoce.weights.part_grid import GRID
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight

_GRID = ("bits", "group_size", "symmetric", "scale_dtype")


def _describe(weight: Weight) -> Mapping[str, Any]:
    if weight.low_rank is None:
        return {}
    if isinstance(weight.low_rank, CodedFactors):
        grid = grid_as_options(weight.low_rank.grid)
        return {"rank": weight.low_rank.rank, **{f"factor_{name}": grid[name] for name in _GRID}}
    left, _ = weight.low_rank
    return {"rank": left.shape[1], "factor_dtype": DTYPE_NAMES[left.dtype]}


def _sides(entry: Description) -> dict[str, Description]:
    """Each factor on a grid as if it were a layer: a row for each direction."""
    assert entry.rank is not None
    grid: dict[str, Any] = {name: getattr(entry, f"factor_{name}") for name in _GRID}
    grid["zero"] = None if entry.factor_symmetric else "integer"
    left = Description(entry.name, f"{entry.tensor}.left", "linear", (entry.rank, entry.rows), **grid)
    return {"left": left, "right": right_side(entry, **grid)}


def _specs(entry: Description) -> list[Part]:
    assert entry.rank is not None
    if entry.factor_bits is not None:
        sides = _sides(entry).items()
        return [(f"{side}.{suffix}", dtype, shape) for side, of in sides for suffix, dtype, shape in GRID.specs(of)]
    assert entry.factor_dtype is not None
    return [
        ("left", entry.factor_dtype, (entry.rows, entry.rank)),
        ("right", entry.factor_dtype, (entry.factor_kept,) if entry.factor_kept else (entry.rank, entry.columns)),
    ]


def _pack(weight: Weight, entry: Description) -> Tensors:
    factors, mask = weight.low_rank, weight.factor_mask
    assert factors is not None
    if isinstance(factors, tuple):
        left, right = factors
        return {"left": left, "right": right if mask is None else right[mask]}
    masks = {"left": None, "right": mask}
    packed = {side: GRID.pack(Weight(getattr(factors, side), masks[side]), of) for side, of in _sides(entry).items()}
    return {f"{side}.{suffix}": tensor for side, found in packed.items() for suffix, tensor in found.items()}


def _unpack(
    entry: Description, tensors: Mapping[str, Tensor], mask: Tensor | None
) -> tuple[Tensor, Tensor] | CodedFactors:
    kept = mask_of_right(entry, tensors)
    if entry.factor_bits is None:
        return tensors["left"], spread(tensors["right"], right_side(entry), kept)
    masks = {"left": None, "right": kept}
    return CodedFactors(
        **{side: GRID.unpack(of, _of_side(side, tensors), masks[side]) for side, of in _sides(entry).items()}
    )


def _of_side(side: str, tensors: Mapping[str, Tensor]) -> Tensors:
    stem = f"{side}."
    return {name.removeprefix(stem): tensor for name, tensor in tensors.items() if name.startswith(stem)}


def _words(entry: Description) -> str:
    if entry.factor_bits is None:
        return f"rank {entry.rank} {entry.factor_dtype}"
    return f"rank {entry.rank} {GRID.words(_sides(entry)['left'])}"


LOW_RANK = WeightPart(
    "low_rank",
    "low_rank",
    "low_rank",
    _describe,
    lambda entry: entry.rank is not None,
    _specs,
    _pack,
    _unpack,
    _words,
    "a low-rank part (low_rank, lora) cannot be written beside integers",
)
