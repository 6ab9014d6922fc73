"""A layer's parts as packed tensors, and back: bitwise, and without a wasted bit."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor

from sottovoce.methods.options import grid_as_options, grid_of
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.packing import is_two_of_four, pack, pack_two_of_four, unpack, unpack_two_of_four
from sottovoce.numbers.rounding import Rounding
from sottovoce.path_parts import input_entry, pack_path, rounding_entry, unpack_path
from sottovoce.table import DTYPE_NAMES, Entry, TensorSpec
from sottovoce.weight import Layer, Weight


def entry_of(layer: Layer, tensor: str, shape: tuple[int, ...]) -> Entry:
    """The table's entry for a layer whose module stores its weight as `tensor` in `shape`."""
    weight, base = layer.weight, layer.weight.base
    mask: Literal["2:4", "bitmap"] | None = None
    if weight.mask is not None:
        mask = "2:4" if is_two_of_four(weight.mask) else "bitmap"
    common = {
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
        zero = None if base.zero_point is None else "integer" if base.zero_point.dtype == torch.uint8 else "fractional"
        common |= {
            **grid_as_options(base.grid),
            "zero": zero,
        }
    elif base is not None:
        common["dtype"] = DTYPE_NAMES[base.dtype]
    return Entry(**common)  # type: ignore[arg-type]


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
    if isinstance(base, Quantized):
        codes, bits = base.codes.cpu(), base.grid.bits
        found["codes"] = pack(codes, bits) if mask is None else pack(codes[mask.cpu()][None], bits)[0]
        found["scale"] = base.scale
        if base.zero_point is not None:
            found["zero_point"] = pack(base.zero_point, bits) if entry.zero == "integer" else base.zero_point
    elif base is not None:
        found["values"] = base if mask is None else base[mask]
    if mask is not None:
        found["mask"] = pack_two_of_four(mask) if entry.mask == "2:4" else pack(mask, 1)
    if weight.low_rank is not None:
        found["left"], found["right"] = weight.low_rank
    return {f"{entry.tensor}.{suffix}": tensor.cpu().contiguous() for suffix, tensor in found.items()}


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

    A dropped weight of a quantized base gets level 0 and of a float base 0: the mask hides both.
    """
    parts = checked_parts(entry.weight_parts(), tensors, entry.tensor)
    if entry.plain:
        return Weight(parts[""].reshape(entry.rows, entry.columns))
    mask = _unpack_mask(entry, parts["mask"]) if entry.mask else None
    low_rank = (parts["left"], parts["right"]) if entry.rank is not None else None
    return Weight(_unpack_base(entry, parts, mask), mask, low_rank)


def _unpack_mask(entry: Entry, packed: Tensor) -> Tensor:
    mask = unpack_two_of_four(packed, entry.columns) if entry.mask == "2:4" else unpack(packed, 1, entry.columns).bool()
    if int(mask.sum()) != entry.kept:
        raise ValueError(f"{entry.tensor}.mask keeps {int(mask.sum())} weights; the table says {entry.kept}")
    return mask


def _unpack_base(entry: Entry, parts: Mapping[str, Tensor], mask: Tensor | None) -> Tensor | Quantized | None:
    if entry.bits is None:
        return _spread(parts["values"], mask, entry) if entry.dtype else None
    codes = parts["codes"]
    levels = (
        unpack(codes, entry.bits, entry.columns) if mask is None else unpack(codes[None], entry.bits, entry.kept)[0]
    )
    if bool((parts["scale"] <= 0).any()):
        raise ValueError(f"{entry.tensor}.scale holds values that are not positive")
    zero = parts.get("zero_point")
    if entry.zero == "integer":
        assert zero is not None
        zero = unpack(zero, entry.bits, entry.scale_shape()[1])
    grid = grid_of(
        {
            "bits": entry.bits,
            "group_size": entry.group_size,
            "symmetric": entry.symmetric,
            "scale_dtype": entry.scale_dtype,
        }
    )
    return Quantized(_spread(levels, mask, entry), parts["scale"], zero, grid)


def _spread(values: Tensor, mask: Tensor | None, entry: Entry) -> Tensor:
    if mask is None:
        return values
    return torch.zeros(entry.rows, entry.columns, dtype=values.dtype).masked_scatter_(mask, values)
