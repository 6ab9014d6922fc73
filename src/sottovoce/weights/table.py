"""The table of an artifact: what each layer is made of, and from that its exact bytes.

Pure: an entry says which tensors a layer is stored as, so sizes are known without a file.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from sottovoce.weights.cost import LayerCost
from sottovoce.weights.description import Description
from sottovoce.weights.parts import held
from sottovoce.weights.path_table import FactorEntry, InputEntry, Part, RoundingEntry, TurnEntry, rounding_document

_SAFETENSORS = {
    "uint8": ("U8", 1),
    "uint16": ("U16", 2),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "float32": ("F32", 4),
}


@dataclass(frozen=True)
class TensorSpec:
    """One stored tensor: name, dtype by name, shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its bytes in the file."""
        return prod(self.shape) * _SAFETENSORS[self.dtype][1]


@dataclass(frozen=True)
class Entry(Description):
    """One layer of the table, with the tensors that it is stored as, and so its bytes and its cost."""

    def parts(self) -> list[TensorSpec]:
        """The tensors that it is stored as: its weight's and its input path's."""
        path = self.input.parts(self.inputs) if self.input else []
        return self.weight_parts() + _specs(self.tensor, path)

    def weight_parts(self) -> list[TensorSpec]:
        """The tensors that its weight is stored as."""
        if self.plain:
            assert self.dtype is not None
            return [TensorSpec(self.tensor, self.dtype, self.shape)]
        return _specs(self.tensor, [spec for part in held(self) for spec in part.specs(self)])

    @property
    def newer(self) -> bool:
        """Whether it tells what readers of format 3 do not know."""
        zeroed = self.input is not None and self.input.zeroing is not None
        factors = self.factor_bits is not None or self.factor_mask is not None
        return self.mask not in (None, "2:4", "bitmap") or factors or zeroed or self.wrapper_size is not None

    @property
    def words(self) -> str:
        """What its weight is made of: "int4 group 32 + 2:4 + rank 12"."""
        return " + ".join(part.words(self) for part in held(self))

    @property
    def bytes(self) -> int:
        """The bytes of all its parts."""
        return sum(spec.bytes for spec in self.parts())

    @property
    def base_bits(self) -> int:
        """The width of what is multiplied for a base weight: a level, a float or a table's entry; 0 without a base."""
        return _bits_of(self.palette) or self.bits or _bits_of(self.dtype)

    def as_cost(self) -> LayerCost:
        """What cost.py needs of it; only a 2:4 mask lets a kernel skip."""
        return LayerCost(
            self.rows,
            self.columns,
            self.base_bits,
            _multiplied(self.mask),
            self.rank or 0,
            self.factor_bits or _bits_of(self.factor_dtype),
            self.bytes,
            self.outliers or 0,
            _bits_of(self.outlier_dtype),
            self.input.rounding.bits if self.input and self.input.rounding else None,
            self.output.bits if self.output else None,
            turn_cost(self.input.turn) if self.input else (),
            self.input.zeroing.share if self.input and self.input.zeroing else 0.0,
            _multiplied(self.factor_mask),
            self.wrapper_size or 0,
            _bits_of(self.wrapper_dtype),
        )

    def as_document(self) -> dict[str, Any]:
        """The entry for JSON, without what is absent."""
        found = asdict(self)
        found["input"] = self.input.as_document() if self.input else None
        found["output"] = rounding_document(self.output) if self.output else None
        return {key: value for key, value in found.items() if value is not None and value != ()}

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "Entry":
        """The inverse of `as_document`."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
        }
        if "input" in fields:
            fields["input"] = InputEntry.of_document(fields["input"])
        if "output" in fields:
            fields["output"] = RoundingEntry(**fields["output"])
        return Entry(**fields)


def _bits_of(dtype: str | None) -> int:
    return 8 * _SAFETENSORS[dtype][1] if dtype else 0


def _multiplied(mask: str | None) -> float:
    """The share of masked weights that a kernel multiplies."""
    return 0.5 if mask == "2:4" else 1.0


def turn_cost(factors: Iterable[FactorEntry]) -> tuple[tuple[int, int], ...]:
    """The order and the bits of each factor, as cost.py counts them."""
    return tuple((factor.order, factor.bits) for factor in factors)


def turn_as_cost(entry: TurnEntry) -> LayerCost:
    """What cost.py needs of a turn that belongs to no layer: a layer without a weight."""
    stored = sum(spec.bytes for spec in turn_parts(entry, entry.name))
    return LayerCost(entry.width, entry.width, 0, 1.0, 0, 0, stored, turn=turn_cost(entry.turn))


def turn_parts(entry: TurnEntry, module: str) -> list[TensorSpec]:
    """The tensors of a turn at the entry of `module`, as the state dict names it."""
    return _specs(module, entry.parts())


def _specs(stem: str, parts: Iterable[Part]) -> list[TensorSpec]:
    return [TensorSpec(f"{stem}.{suffix}", dtype, shape) for suffix, dtype, shape in parts]


def file_size(specs: Iterable[TensorSpec]) -> int:
    """The bytes of a safetensors file that holds these tensors: 8, the header, the data.

    The header is JSON, tensors by falling width of dtype, then by name, padded to 8 bytes.
    """
    ordered = sorted(specs, key=lambda spec: (-_SAFETENSORS[spec.dtype][1], _SAFETENSORS[spec.dtype][0], spec.name))
    header, offset = {}, 0
    for spec in ordered:
        header[spec.name] = {
            "dtype": _SAFETENSORS[spec.dtype][0],
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.bytes],
        }
        offset += spec.bytes
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-text // 8) * 8 + offset
