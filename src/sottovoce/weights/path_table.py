"""What happens at run time to a layer's input and output, as the table of an artifact says it.

Pure: which tensors a path is stored as, and their bytes, follow from the table alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

from sottovoce.numbers.packing import packed_size
from sottovoce.numbers.rounding import Per

FactorKind = Literal[
    "orthogonal", "hadamard", "transposed hadamard", "hadamard keeping ones", "transposed hadamard keeping ones"
]
Part = tuple[str, str, tuple[int, ...]]  # suffix, dtype, shape


@dataclass(frozen=True)
class FactorEntry:
    """One matrix of a turn: (order, order).

    kind  "hadamard" is H * signs / sqrt(order), columns by sign, stored as the signs alone; "transposed hadamard" its
          transpose; "hadamard keeping ones" is hadamard_keeping_ones of the stored signs, of rows and then of columns,
          and "transposed ..." its transpose; "orthogonal" any other, stored whole
    """

    order: int
    kind: FactorKind

    def part(self, suffix: str) -> Part:
        """How it is stored."""
        if self.kind == "orthogonal":
            return suffix, "float32", (self.order, self.order)
        signs = 2 * self.order if self.kind.endswith("keeping ones") else self.order
        return suffix, "uint8", (packed_size(signs, 1),)

    @property
    def bits(self) -> int:
        """The width of one of its entries: a sign or a float."""
        return 32 if self.kind == "orthogonal" else 1


@dataclass(frozen=True)
class RoundingEntry:
    """The grid of an activation; see Rounding. Scales and zero points are tensors where they are fixed."""

    bits: int
    per: Per
    symmetric: bool
    threshold: float | None = None

    @property
    def text(self) -> str:
        """In a few words: "int8 per token"."""
        told = [f"int{self.bits} per {self.per}", "" if self.symmetric else "asymmetric"]
        told += [f"float from {self.threshold:g}"] if self.threshold is not None else []
        return " ".join(filter(None, told))


@dataclass(frozen=True)
class ZeroingEntry:
    """Entries of an activation that become 0; see Zeroing. The threshold is a float32 number, written exactly."""

    threshold: float
    share: float

    @property
    def text(self) -> str:
        """In a few words: "50 % zeros"."""
        return f"{100 * self.share:.3g} % zeros"


@dataclass(frozen=True)
class InputEntry:
    """A layer's InputPath: its turn's factors, whether there is a divisor, its rounding, its zeroing."""

    turn: tuple[FactorEntry, ...] = ()
    divisor: bool = False
    rounding: RoundingEntry | None = None
    zeroing: ZeroingEntry | None = None

    def parts(self, inputs: int) -> list[Part]:
        """The tensors that it is stored as, for a layer of `inputs` channels."""
        found = [factor.part(f"input.turn.{i}") for i, factor in enumerate(self.turn)]
        if self.divisor:
            found.append(("input.divisor", "float32", (inputs,)))
        if self.rounding is not None and self.rounding.per in ("tensor", "channel"):
            shape = (inputs if self.rounding.per == "channel" else 1,)
            found.append(("input.scale", "float32", shape))
            if not self.rounding.symmetric:
                found.append(("input.zero_point", "uint8", shape))
        return found

    def as_document(self) -> dict[str, Any]:
        """For JSON, without what is absent."""
        found: dict[str, Any] = {"turn": [asdict(factor) for factor in self.turn]} if self.turn else {}
        if self.divisor:
            found["divisor"] = True
        if self.rounding is not None:
            found["rounding"] = rounding_document(self.rounding)
        if self.zeroing is not None:
            found["zeroing"] = asdict(self.zeroing)
        return found

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "InputEntry":
        """The inverse of `as_document`."""
        rounding, zeroing = document.get("rounding"), document.get("zeroing")
        return InputEntry(
            factors_of(document.get("turn", ())),
            document.get("divisor", False),
            None if rounding is None else RoundingEntry(**rounding),
            None if zeroing is None else ZeroingEntry(**zeroing),
        )


@dataclass(frozen=True)
class TurnEntry:
    """A turn at the entry of a module that is no layer, a block or a norm, by the module's name."""

    name: str
    turn: tuple[FactorEntry, ...]

    def parts(self) -> list[Part]:
        """The tensors that it is stored as, under the module's name."""
        return [factor.part(f"turn.{i}") for i, factor in enumerate(self.turn)]

    @property
    def width(self) -> int:
        """The channels that it turns."""
        return prod(factor.order for factor in self.turn)

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "TurnEntry":
        """From what `asdict` made of it."""
        return TurnEntry(document["name"], factors_of(document["turn"]))


def rounding_document(rounding: RoundingEntry) -> dict[str, Any]:
    """For JSON, without what is absent."""
    return {key: value for key, value in asdict(rounding).items() if value is not None}


def factors_of(documents: Sequence[Mapping[str, Any]]) -> tuple[FactorEntry, ...]:
    """The factors of a turn from JSON."""
    return tuple(FactorEntry(**document) for document in documents)
