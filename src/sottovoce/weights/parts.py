"""A layer's parts as packed tensors, and back: bitwise, and without a wasted bit."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor

from sottovoce.numbers.coded import Coded
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.grid_options import grid_as_options, grid_of
from sottovoce.numbers.packing import is_two_of_four, pack, pack_two_of_four, unpack, unpack_two_of_four
from sottovoce.numbers.palette import Palettized
from sottovoce.numbers.rounding import Rounding
from sottovoce.numbers.scales import RoundedScales, Scales
from sottovoce.numbers.sparse import Sparse
from sottovoce.weights.path_parts import input_entry, pack_path, rounding_entry, unpack_path
from sottovoce.weights.table import DTYPE_NAMES, Entry, TensorSpec
from sottovoce.weights.weight import Layer, Weight


def entry_of(layer: Layer, tensor: str, shape: tuple[int, ...]) -> Entry:
    """The table's entry for a layer whose module stores its weight as `tensor` in `shape`."""
    weight, base = layer.weight, layer.weight.base
    mask: Literal["2:4", "bitmap"] | None = None
    if weight.mask is not None:
        mask = "2:4" if is_two_of_four(weight.mask) else "bitmap"
    common: dict[str, Any] = {
        "name": layer.name,
        "tensor": tensor,
        "kind": layer.kind,
        "shape": shape,
        "mask": mask,
        "kept": int(weight.mask.sum()) if weight.mask is not None else layer.target.numel(),
        "rank": weight.low_rank[0].shape[1] if weight.low_rank else None,
        "factor_dtype": DTYPE_NAMES[weight.low_rank[0].dtype] if weight.low_rank else None,
        "input": input_entry(layer.input),
        "output": None if layer.output is None else rounding_entry(layer.output),
        "steps": tuple(layer.steps),
    }
    if isinstance(base, Quantized):
        common |= {**grid_as_options(base.grid), **_scale_fields(base)}
    elif isinstance(base, Palettized):
        common |= {"bits": base.bits, "palette": DTYPE_NAMES[base.table.dtype]}
    elif isinstance(base, Tensor):
        common["dtype"] = DTYPE_NAMES[base.dtype]
    if (outliers := _kept_outliers(weight)) is not None:
        common |= {"outliers": len(outliers), "outlier_dtype": DTYPE_NAMES[outliers.values.dtype]}
    return Entry(**common)


def _scale_fields(base: Quantized) -> dict[str, Any]:
    """How the zero points of a grid are stored, and how scales and zero points are rounded themselves."""
    scale, zero = base.scale, base.zero_point
    integer = isinstance(zero, Tensor) and zero.dtype == torch.uint8
    rounded = [part for part in (scale, zero) if isinstance(part, RoundedScales)]
    return {
        "zero": None if zero is None else "integer" if integer else "fractional",
        "scale_bits": scale.bits if isinstance(scale, RoundedScales) else None,
        "zero_bits": zero.bits if isinstance(zero, RoundedScales) else None,
        "scale_rows": rounded[0].size if rounded else None,
    }


def _kept_outliers(weight: Weight) -> Sparse | None:
    """The outliers that are stored: a mask drops them as it drops a code."""
    return None if weight.outliers is None else weight.outliers.under(weight.mask)


def pack_layer(layer: Layer, entry: Entry) -> dict[str, Tensor]:
    """The tensors of `entry.parts()`, by name."""
    path = pack_path(layer.input, entry.input) if entry.input else {}
    named = {f"{entry.tensor}.{suffix}": tensor for suffix, tensor in path.items()}
    return pack_weight(layer.weight, entry) | named


def unpack_layer(entry: Entry, tensors: Mapping[str, Tensor]) -> Layer:
    """The inverse of `pack_layer`; its target is its weight. Raises ValueError as `unpack_weight` does."""
    weight = unpack_weight(entry, tensors)
    layer = Layer(entry.name, entry.kind, weight, weight.dense(), list(entry.steps), kernel=prod(entry.shape[2:]))
    if entry.input:
        parts = checked_parts(entry.parts(), tensors, entry.tensor)
        layer.input = unpack_path(entry.input, parts)
    if entry.output:
        words = entry.output
        layer.output = Rounding(words.bits, words.per, words.symmetric, threshold=words.threshold)
    return layer


def pack_weight(weight: Weight, entry: Entry) -> dict[str, Tensor]:
    """The tensors of `entry.weight_parts()`, by name."""
    base, mask = weight.base, weight.mask
    if entry.plain:
        assert isinstance(base, Tensor)
        return {entry.tensor: base.reshape(entry.shape).cpu().contiguous()}
    found: dict[str, Tensor] = {}
    if isinstance(base, Tensor):
        found["values"] = base if mask is None else base[mask]
    elif base is not None:
        codes = base.codes.cpu()
        found["codes"] = pack(codes, base.bits) if mask is None else pack(codes[mask.cpu()][None], base.bits)[0]
    if isinstance(base, Palettized):
        found["table"] = base.table
    if isinstance(base, Quantized):
        found |= _pack_scales("scale", base.scale, base.bits)
        found |= {} if base.zero_point is None else _pack_scales("zero_point", base.zero_point, base.bits)
    if (outliers := _kept_outliers(weight)) is not None:
        found["outlier_counts"] = outliers.counts.to(torch.uint16)
        found["outlier_columns"] = outliers.columns.to(torch.uint16)
        found["outlier_values"] = outliers.values
    if mask is not None:
        found["mask"] = pack_two_of_four(mask) if entry.mask == "2:4" else pack(mask, 1)
    if weight.low_rank is not None:
        found["left"], found["right"] = weight.low_rank
    return {f"{entry.tensor}.{suffix}": tensor.cpu().contiguous() for suffix, tensor in found.items()}


def _pack_scales(suffix: str, part: Scales, bits: int) -> dict[str, Tensor]:
    """Scales or zero points, integer ones of `bits` bits."""
    if isinstance(part, RoundedScales):
        return {suffix: pack(part.codes, part.bits), f"{suffix}_start": part.start, f"{suffix}_step": part.step}
    return {suffix: pack(part, bits) if part.dtype == torch.uint8 else part}


def checked_parts(specs: Sequence[TensorSpec], tensors: Mapping[str, Tensor], stem: str) -> dict[str, Tensor]:
    """The stored tensors of `specs`, by what follows `stem` in their names.

    Raises ValueError for one that is absent, misshapen or not finite.
    """
    parts = {}
    for spec in specs:
        tensor = tensors.get(spec.name)
        if tensor is None:
            raise ValueError(f"{spec.name} is absent")
        if tuple(tensor.shape) != spec.shape or DTYPE_NAMES.get(tensor.dtype) != spec.dtype:
            raise ValueError(
                f"{spec.name} is {DTYPE_NAMES.get(tensor.dtype, tensor.dtype)} {tuple(tensor.shape)}; the "
                f"table says {spec.dtype} {spec.shape}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{spec.name} holds values that are not finite")
        parts[spec.name.removeprefix(stem).removeprefix(".")] = tensor
    return parts


def unpack_weight(entry: Entry, tensors: Mapping[str, Tensor]) -> Weight:
    """The inverse of `pack_weight`. Raises ValueError for a tensor that is absent, misshapen or not finite.

    A dropped weight of a coded base gets code 0 and of a float base 0: the mask hides both.
    """
    parts = checked_parts(entry.weight_parts(), tensors, entry.tensor)
    if entry.plain:
        return Weight(parts[""].reshape(entry.rows, entry.columns))
    mask = _unpack_mask(entry, parts["mask"]) if entry.mask else None
    low_rank = (parts["left"], parts["right"]) if entry.rank is not None else None
    outliers = _unpack_outliers(entry, parts, mask) if entry.outliers is not None else None
    return Weight(_unpack_base(entry, parts, mask), mask, low_rank, outliers)


def _unpack_mask(entry: Entry, packed: Tensor) -> Tensor:
    mask = unpack_two_of_four(packed, entry.columns) if entry.mask == "2:4" else unpack(packed, 1, entry.columns).bool()
    if int(mask.sum()) != entry.kept:
        raise ValueError(f"{entry.tensor}.mask keeps {int(mask.sum())} weights; the table says {entry.kept}")
    return mask


def _unpack_outliers(entry: Entry, parts: Mapping[str, Tensor], mask: Tensor | None) -> Sparse:
    counts, columns = parts["outlier_counts"].long(), parts["outlier_columns"].long()
    found = Sparse(counts, columns, parts["outlier_values"], entry.columns)
    if int(counts.sum()) != entry.outliers:
        raise ValueError(f"{entry.tensor}.outlier_counts counts {int(counts.sum())}; the table says {entry.outliers}")
    places = found.rows * entry.columns + columns
    if bool((columns >= entry.columns).any()) or bool((places.diff() <= 0).any()):
        raise ValueError(f"{entry.tensor}.outlier_columns does not rise within each row up to {entry.columns - 1}")
    if mask is not None and not bool(mask[found.rows, columns].all()):
        raise ValueError(f"{entry.tensor}.outlier_columns names weights that the mask drops")
    return found


def _unpack_base(entry: Entry, parts: Mapping[str, Tensor], mask: Tensor | None) -> Tensor | Coded | None:
    if entry.bits is None:
        return _spread(parts["values"], mask, entry) if entry.dtype else None
    packed = parts["codes"]
    codes = (
        unpack(packed, entry.bits, entry.columns) if mask is None else unpack(packed[None], entry.bits, entry.kept)[0]
    )
    codes = _spread(codes, mask, entry)
    if entry.palette is not None:
        if bool((parts["table"].diff() < 0).any()):
            raise ValueError(f"{entry.tensor}.table does not rise")
        return Palettized(codes, parts["table"])
    grid = grid_of(
        {
            "bits": entry.bits,
            "group_size": entry.group_size,
            "symmetric": entry.symmetric,
            "scale_dtype": entry.scale_dtype,
        }
    )
    scale = _unpack_scales(entry, parts, "scale", entry.scale_bits)
    zero = _unpack_scales(entry, parts, "zero_point", entry.zero_bits) if entry.zero else None
    found = Quantized(codes, scale, zero, grid)
    if bool((found.scales() <= 0).any()):
        raise ValueError(f"{entry.tensor}.scale holds values that are not positive")
    return found


def _unpack_scales(entry: Entry, parts: Mapping[str, Tensor], suffix: str, bits: int | None) -> Scales:
    groups = entry.scale_shape()[1]
    if bits is not None:
        assert entry.scale_rows is not None
        codes, start, step = (parts[f"{suffix}{part}"] for part in ("", "_start", "_step"))
        if bool((step < 0).any()):
            raise ValueError(f"{entry.tensor}.{suffix}_step holds values below 0")
        return RoundedScales(unpack(codes, bits, groups), start, step, bits, entry.scale_rows)
    if suffix == "zero_point" and entry.zero == "integer":
        assert entry.bits is not None
        return unpack(parts[suffix], entry.bits, groups)
    return parts[suffix]


def _spread(values: Tensor, mask: Tensor | None, entry: Entry) -> Tensor:
    if mask is None:
        return values
    return torch.zeros(entry.rows, entry.columns, dtype=values.dtype).masked_scatter_(mask, values)
