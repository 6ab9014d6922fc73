"""The table of an artifact: what each layer is made of, and from that its exact bytes.

Pure: an entry says which tensors a layer is stored as, so sizes are known without a file.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

import torch

from sottovoce.numbers.grid import SCALE_DTYPES
from sottovoce.numbers.packing import packed_size
from sottovoce.weights.cost import LayerCost
from sottovoce.weights.path_table import FactorEntry, InputEntry, Part, RoundingEntry, TurnEntry, rounding_document
from sottovoce.weights.weight import Kind

DTYPE_NAMES = {torch.uint8: "uint8", torch.uint16: "uint16"} | {dtype: name for name, dtype in SCALE_DTYPES.items()}
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
class Entry:
    """One layer of the table.

    shape      the module's weight shape; rows and columns are its matrix
    dtype      of a float base; None where the base is coded or absent
    bits, group_size, symmetric, scale_dtype
               the grid; bits None where the base is float or absent
    zero       "integer" levels, "fractional" in scale_dtype, None on a symmetric grid
    scale_bits, zero_bits, scale_rows
               of scales and fractional zeros that are rounded themselves, on lines that scale_rows rows share
    palette    the dtype of the table whose places the codes are, without a grid; None on a grid
    outliers   values in the base's place that the mask keeps, None without, in outlier_dtype
    mask       "2:4", "bitmap" or None; kept counts the weights it keeps
    rank       of the low-rank term, None without one, in factor_dtype
    input      what happens at run time to what it reads; None where nothing does
    output     the grid on which the cache holds what it puts out
    steps      what was done, in order
    """

    name: str
    tensor: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str | None = None
    bits: int | None = None
    group_size: int | Literal["channel", "tensor"] | None = None
    symmetric: bool | None = None
    scale_dtype: str | None = None
    zero: Literal["integer", "fractional"] | None = None
    scale_bits: int | None = None
    zero_bits: int | None = None
    scale_rows: int | None = None
    palette: str | None = None
    outliers: int | None = None
    outlier_dtype: str | None = None
    mask: Literal["2:4", "bitmap"] | None = None
    kept: int = 0
    rank: int | None = None
    factor_dtype: str | None = None
    input: InputEntry | None = None
    output: RoundingEntry | None = None
    steps: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Outputs."""
        return self.shape[0]

    @property
    def columns(self) -> int:
        """Inputs; a convolution's times its kernel."""
        return prod(self.shape[1:])

    @property
    def weights(self) -> int:
        """Weights before any mask."""
        return prod(self.shape)

    @property
    def inputs(self) -> int:
        """Channels of what it reads: a convolution's columns are these times its kernel."""
        return self.shape[1]

    @property
    def plain(self) -> bool:
        """Whether the layer is one ordinary float tensor."""
        return self.dtype is not None and all(part is None for part in (self.mask, self.rank, self.outliers))

    def scale_shape(self) -> tuple[int, int]:
        """(rows, groups) of the scales."""
        if self.group_size == "tensor":
            return 1, 1
        if isinstance(self.group_size, int):
            return self.rows, self.columns // self.group_size
        return self.rows, 1

    def parts(self) -> list[TensorSpec]:
        """The tensors that it is stored as: its weight's and its input path's."""
        path = self.input.parts(self.inputs) if self.input else []
        return self.weight_parts() + _specs(self.tensor, path)

    def weight_parts(self) -> list[TensorSpec]:
        """The tensors that its weight is stored as."""
        if self.plain:
            assert self.dtype is not None
            return [TensorSpec(self.tensor, self.dtype, self.shape)]
        found: list[TensorSpec] = []

        def part(suffix: str, dtype: str, *shape: int) -> None:
            found.append(TensorSpec(f"{self.tensor}.{suffix}", dtype, shape))

        if self.dtype is not None:
            values = (self.kept,) if self.mask else (self.rows, self.columns)
            part("values", self.dtype, *values)
        if self.bits is not None:
            codes = (
                (packed_size(self.kept, self.bits),) if self.mask else (self.rows, packed_size(self.columns, self.bits))
            )
            part("codes", "uint8", *codes)
        if self.palette is not None:
            assert self.bits is not None
            part("table", self.palette, 2**self.bits)
        elif self.bits is not None:
            assert self.scale_dtype is not None
            rows, groups = self.scale_shape()
            for suffix, bits in (("scale", self.scale_bits), ("zero_point", self.zero_bits)):
                if bits is not None:
                    assert self.scale_rows is not None
                    part(suffix, "uint8", rows, packed_size(groups, bits))
                    part(f"{suffix}_start", self.scale_dtype, -(-rows // self.scale_rows), groups)
                    part(f"{suffix}_step", self.scale_dtype, -(-rows // self.scale_rows), groups)
                elif suffix == "scale" or self.zero == "fractional":
                    part(suffix, self.scale_dtype, rows, groups)
                elif self.zero == "integer":
                    part(suffix, "uint8", rows, packed_size(groups, self.bits))
        if self.outliers is not None:
            assert self.outlier_dtype is not None
            part("outlier_counts", "uint16", self.rows)
            part("outlier_columns", "uint16", self.outliers)
            part("outlier_values", self.outlier_dtype, self.outliers)
        if self.mask is not None:
            bits, places = (3, self.columns // 4) if self.mask == "2:4" else (1, self.columns)
            part("mask", "uint8", self.rows, packed_size(places, bits))
        if self.rank is not None:
            assert self.factor_dtype is not None
            part("left", self.factor_dtype, self.rows, self.rank)
            part("right", self.factor_dtype, self.rank, self.columns)
        return found

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
            0.5 if self.mask == "2:4" else 1.0,
            self.rank or 0,
            _bits_of(self.factor_dtype),
            self.bytes,
            self.outliers or 0,
            _bits_of(self.outlier_dtype),
            self.input.rounding.bits if self.input and self.input.rounding else None,
            self.output.bits if self.output else None,
            turn_cost(self.input.turn) if self.input else (),
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
