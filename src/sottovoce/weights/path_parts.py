"""A run-time path as stored tensors, and back: bitwise, a Hadamard factor by its signs alone."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sottovoce.numbers.hadamard import hadamard, hadamard_keeping_ones, has_hadamard
from sottovoce.numbers.packing import pack, unpack
from sottovoce.numbers.rounding import Rounding
from sottovoce.numbers.zeroing import Zeroing
from sottovoce.weights.input_path import InputPath, Turn
from sottovoce.weights.path_table import FactorEntry, FactorKind, InputEntry, RoundingEntry, ZeroingEntry


def input_entry(path: InputPath) -> InputEntry | None:
    """The table's words for a path; None for one that does nothing."""
    if not path:
        return None
    return InputEntry(
        turn_entry(path.turn) if path.turn else (),
        path.divisor is not None,
        None if path.rounding is None else rounding_entry(path.rounding),
        None if path.zeroing is None else ZeroingEntry(path.zeroing.threshold, path.zeroing.share),
    )


def rounding_entry(rounding: Rounding) -> RoundingEntry:
    """The table's words for a rounding."""
    return RoundingEntry(rounding.bits, rounding.per, rounding.symmetric, rounding.threshold)


def turn_entry(turn: Turn) -> tuple[FactorEntry, ...]:
    """The table's words for a turn, each factor by the shortest kind that gives it bit for bit."""
    return tuple(_factor_entry(factor.cpu()) for factor in turn.factors)


def pack_path(path: InputPath, entry: InputEntry) -> dict[str, Tensor]:
    """The tensors of `entry.parts()` by their suffix."""
    found = pack_turn(path.turn, entry.turn, "input.turn") if path.turn else {}
    if path.divisor is not None:
        found["input.divisor"] = path.divisor.float()
    rounding = path.rounding
    if rounding is not None and rounding.scale is not None:
        found["input.scale"] = rounding.scale.reshape(-1)
        if rounding.zero_point is not None:
            found["input.zero_point"] = rounding.zero_point.reshape(-1).to(torch.uint8)
    return {suffix: _own(tensor) for suffix, tensor in found.items()}


def unpack_path(entry: InputEntry, parts: Mapping[str, Tensor]) -> InputPath:
    """The inverse of `pack_path`. Raises ValueError for a scale or divisor that is not positive."""
    for name in ("input.scale", "input.divisor"):
        if name in parts and bool((parts[name] <= 0).any()):
            raise ValueError(f"{name} holds values that are not positive")
    rounding = None
    if entry.rounding is not None:
        words = entry.rounding
        scale, zero = parts.get("input.scale"), parts.get("input.zero_point")
        if words.per == "tensor" and scale is not None:
            scale, zero = scale[0], None if zero is None else zero[0]
        zero = None if zero is None else zero.float()
        rounding = Rounding(words.bits, words.per, words.symmetric, scale, zero, words.threshold)
    turn = unpack_turn(entry.turn, parts, "input.turn") if entry.turn else None
    zeroing = None if entry.zeroing is None else Zeroing(entry.zeroing.threshold, entry.zeroing.share)
    return InputPath(turn, parts.get("input.divisor"), rounding, zeroing)


def pack_turn(turn: Turn, entries: Sequence[FactorEntry], stem: str) -> dict[str, Tensor]:
    """The factors of a turn by suffix: "<stem>.0" and on."""
    pairs = enumerate(zip(turn.factors, entries, strict=True))
    return {f"{stem}.{i}": _own(_packed(factor.cpu(), entry)) for i, (factor, entry) in pairs}


def unpack_turn(entries: Sequence[FactorEntry], parts: Mapping[str, Tensor], stem: str) -> Turn:
    """The inverse of `pack_turn`."""
    return Turn(tuple(_unpacked(parts[f"{stem}.{i}"], entry) for i, entry in enumerate(entries)))


# by the kind that they store: from a matrix to the signs that may give it, and back
_SIGNED: dict[FactorKind, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "hadamard": (lambda matrix: _column_signs(matrix), lambda signs: _of_column_signs(signs)),
    "transposed hadamard": (lambda matrix: _column_signs(matrix.T), lambda signs: _of_column_signs(signs).T),
    "hadamard keeping ones": (lambda matrix: _both_signs(matrix), lambda signs: _of_both_signs(signs)),
    "transposed hadamard keeping ones": (lambda matrix: _both_signs(matrix.T), lambda signs: _of_both_signs(signs).T),
}


def _factor_entry(factor: Tensor) -> FactorEntry:
    order = len(factor)
    if has_hadamard(order):
        for kind, (signs_of, matrix_of) in _SIGNED.items():
            if torch.equal(matrix_of(signs_of(factor)), factor):
                return FactorEntry(order, kind)
    return FactorEntry(order, "orthogonal")


def _packed(factor: Tensor, entry: FactorEntry) -> Tensor:
    if entry.kind == "orthogonal":
        return factor.float()
    signs_of, _ = _SIGNED[entry.kind]
    return pack((signs_of(factor) < 0)[None], 1)[0]


def _unpacked(part: Tensor, entry: FactorEntry) -> Tensor:
    if entry.kind == "orthogonal":
        return part
    _, matrix_of = _SIGNED[entry.kind]
    count = 2 * entry.order if entry.kind.endswith("keeping ones") else entry.order
    return matrix_of(1.0 - 2.0 * unpack(part[None], 1, count)[0].float()).contiguous()


def _column_signs(matrix: Tensor) -> Tensor:
    """(order,) +1 and -1: what the columns of the Hadamard matrix would be multiplied by."""
    return torch.where(matrix[0] * hadamard(len(matrix))[0] < 0, -1.0, 1.0)


def _of_column_signs(signs: Tensor) -> Tensor:
    return hadamard(len(signs)) * signs / len(signs) ** 0.5  # the very arithmetic of random_hadamard


def _both_signs(matrix: Tensor) -> Tensor:
    """(2 order,) +1 and -1, of rows and of columns; a reflection changes few entries' signs, so most of them tell."""
    product = torch.where(matrix * hadamard(len(matrix)) < 0, -1.0, 1.0)  # of each entry's row and column
    columns = torch.where(product.T @ product[:, 0] < 0, -1.0, 1.0)
    rows = torch.where(product @ columns < 0, -1.0, 1.0)
    return torch.cat([rows, columns])


def _of_both_signs(signs: Tensor) -> Tensor:
    return hadamard_keeping_ones(*signs.chunk(2))


def _own(tensor: Tensor) -> Tensor:
    """On the CPU, in memory of its own: layers may share a path, and a file stores each one's."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
