"""A layer as packed tensors, and back: bitwise, and without a wasted bit."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from sottovoce.numbers.rounding import Rounding
from sottovoce.weights.part import DTYPE_NAMES
from sottovoce.weights.parts import PARTS, held
from sottovoce.weights.path_parts import input_entry, pack_path, rounding_entry, unpack_path
from sottovoce.weights.table import Entry, TensorSpec
from sottovoce.weights.weight import Layer, Weight


def entry_of(layer: Layer, tensor: str, shape: tuple[int, ...]) -> Entry:
    """The table's entry for a layer whose module stores its weight as `tensor` in `shape`."""
    told: dict[str, Any] = {"kept": layer.target.numel()}
    for part in PARTS:
        told |= part.describe(layer.weight)
    return Entry(
        name=layer.name,
        tensor=tensor,
        kind=layer.kind,
        shape=shape,
        input=input_entry(layer.input),
        output=None if layer.output is None else rounding_entry(layer.output),
        steps=tuple(layer.steps),
        **told,
    )


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
    if entry.plain:
        assert isinstance(weight.base, Tensor)
        return {entry.tensor: weight.base.reshape(entry.shape).cpu().contiguous()}
    found = {suffix: tensor for part in held(entry) for suffix, tensor in part.pack(weight, entry).items()}
    return {f"{entry.tensor}.{suffix}": tensor.cpu().contiguous() for suffix, tensor in found.items()}


def unpack_weight(entry: Entry, tensors: Mapping[str, Tensor]) -> Weight:
    """The inverse of `pack_weight`. Raises ValueError for a tensor that is absent, misshapen or not finite.

    A dropped weight of a coded base gets code 0 and of a float base 0: the mask hides both.
    """
    stored = checked_parts(entry.weight_parts(), tensors, entry.tensor)
    if entry.plain:
        return Weight(stored[""].reshape(entry.rows, entry.columns))
    parts = sorted(held(entry), key=lambda part: part.field != "mask")  # under which the others lie
    found: dict[str, Any] = {"base": None}
    for part in parts:
        found[part.field] = part.unpack(entry, stored, found.get("mask"))
    return Weight(**found)


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
