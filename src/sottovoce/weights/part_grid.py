"""A base on a grid: codes, scales, zero points; scales and zero points may be rounded themselves."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.grid_options import grid_as_options, grid_of
from sottovoce.numbers.packing import pack, packed_size, unpack
from sottovoce.numbers.scales import RoundedScales, Scales
from sottovoce.weights.close import codes_spec, pack_codes, unpack_codes
from sottovoce.weights.description import Description
from sottovoce.weights.part import Tensors, WeightPart
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight


def _describe(weight: Weight) -> Mapping[str, Any]:
    base = weight.base
    if not isinstance(base, Quantized):
        return {}
    scale, zero = base.scale, base.zero_point
    integer = isinstance(zero, Tensor) and zero.dtype == torch.uint8
    rounded = [part for part in (scale, zero) if isinstance(part, RoundedScales)]
    return {
        **grid_as_options(base.grid),
        "zero": None if zero is None else "integer" if integer else "fractional",
        "scale_bits": scale.bits if isinstance(scale, RoundedScales) else None,
        "zero_bits": zero.bits if isinstance(zero, RoundedScales) else None,
        "scale_rows": rounded[0].size if rounded else None,
    }


def _specs(entry: Description) -> list[Part]:
    found = [codes_spec(entry), *_scales("scale", entry.scale_bits, entry)]
    if entry.zero == "integer":
        assert entry.bits is not None
        rows, groups = entry.scale_shape()
        return [*found, ("zero_point", "uint8", (rows, packed_size(groups, entry.bits)))]
    return [*found, *(_scales("zero_point", entry.zero_bits, entry) if entry.zero else ())]


def _scales(suffix: str, bits: int | None, entry: Description) -> list[Part]:
    """Scales, or fractional zero points, floats or rounded to `bits` bits on lines that some rows share."""
    assert entry.scale_dtype is not None
    rows, groups = entry.scale_shape()
    if bits is None:
        return [(suffix, entry.scale_dtype, (rows, groups))]
    assert entry.scale_rows is not None
    lines = (-(-rows // entry.scale_rows), groups)
    ends: list[Part] = [(f"{suffix}_{end}", entry.scale_dtype, lines) for end in ("start", "step")]
    return [(suffix, "uint8", (rows, packed_size(groups, bits))), *ends]


def _pack(weight: Weight, entry: Description) -> Tensors:
    base = weight.base
    assert isinstance(base, Quantized)
    found = {"codes": pack_codes(base.codes, base.bits, weight.mask), **_pack_scales("scale", base.scale, base.bits)}
    return found | ({} if base.zero_point is None else _pack_scales("zero_point", base.zero_point, base.bits))


def _pack_scales(suffix: str, part: Scales, bits: int) -> Tensors:
    """Scales or zero points, integer ones of `bits` bits."""
    if isinstance(part, RoundedScales):
        return {suffix: pack(part.codes, part.bits), f"{suffix}_start": part.start, f"{suffix}_step": part.step}
    return {suffix: pack(part, bits) if part.dtype == torch.uint8 else part}


def _unpack(entry: Description, tensors: Mapping[str, Tensor], mask: Tensor | None) -> Quantized:
    options = ("bits", "group_size", "symmetric", "scale_dtype")
    grid = grid_of({name: getattr(entry, name) for name in options})
    scale = _unpack_scales(entry, tensors, "scale", entry.scale_bits)
    zero = _unpack_scales(entry, tensors, "zero_point", entry.zero_bits) if entry.zero else None
    found = Quantized(unpack_codes(tensors["codes"], entry, mask), scale, zero, grid)
    if bool((found.scales() <= 0).any()):
        raise ValueError(f"{entry.tensor}.scale holds values that are not positive")
    return found


def _unpack_scales(entry: Description, tensors: Mapping[str, Tensor], suffix: str, bits: int | None) -> Scales:
    groups = entry.scale_shape()[1]
    if bits is not None:
        assert entry.scale_rows is not None
        codes, start, step = (tensors[f"{suffix}{end}"] for end in ("", "_start", "_step"))
        if bool((step < 0).any()):
            raise ValueError(f"{entry.tensor}.{suffix}_step holds values below 0")
        return RoundedScales(unpack(codes, bits, groups), start, step, bits, entry.scale_rows)
    if suffix == "zero_point" and entry.zero == "integer":
        assert entry.bits is not None
        return unpack(tensors[suffix], entry.bits, groups)
    return tensors[suffix]


def _words(entry: Description) -> str:
    zero = {None: "", "integer": " + zero", "fractional": " + float zero"}[entry.zero]
    spread = f"group {entry.group_size}" if isinstance(entry.group_size, int) else f"per {entry.group_size}"
    rounded = {"scales": entry.scale_bits, "zeros": entry.zero_bits}
    finer = ", ".join(f"{name} int{bits}" for name, bits in rounded.items() if bits is not None)
    return f"int{entry.bits} {spread}{zero}" + (f" ({finer})" if finer else "")


GRID = WeightPart(
    "grid",
    "base",
    "base",
    _describe,
    lambda entry: entry.bits is not None and entry.palette is None,
    _specs,
    _pack,
    _unpack,
    _words,
    "integers on a grid",
)
