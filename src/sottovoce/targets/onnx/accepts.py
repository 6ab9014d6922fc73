"""Which artifacts ONNX Runtime can hold as they are; told from the table, before any weight is read."""

from collections.abc import Iterable

from sottovoce.numbers.grid import Grid
from sottovoce.targets.onnx.blocks import block_size
from sottovoce.targets.run_time import kept_otherwise, without_operator
from sottovoce.weights.table import Entry


def refusals(entries: Iterable[Entry]) -> dict[str, str]:
    """The layers that cannot be held, each with the reason."""
    return {entry.name: reason for entry in entries if (reason := _reason(entry))}


def notes(entries: Iterable[Entry]) -> list[str]:
    """What is held, but not as small or as fast as in the artifact, or computed otherwise."""
    found = list(entries)
    coded = [entry for entry in found if entry.bits is not None]
    told = []
    if coded:
        told.append("inputs of quantized layers are quantized to 8 bits at run time, by ONNX Runtime's own rule")
    told += kept_otherwise(found, coded, (2, 4, 8))
    if any(entry.zero == "fractional" for entry in coded):
        told.append("fractional zero points take ONNX Runtime's slow path, which multiplies in float")
    if any(entry.factor_bits is not None for entry in found):
        told.append("quantized low-rank factors are kept as integers and multiplied as floats: smaller, not faster")
    if loose := [entry for entry in found if entry.base_bits == 0 and entry.kind == "conv"]:
        told.append(f"{len(loose)} convolutions whose factors are their weight are written as their product")
    return told


def _reason(entry: Entry) -> str | None:
    if reason := without_operator(entry, {"wrappers"}):
        return reason
    if entry.wrapper_size is not None and entry.bits is not None:
        return "integers between block-diagonal products (armor): without the rounding it would work"
    if entry.factor_bits is not None:
        assert entry.factor_group_size is not None
        factors = Grid(entry.factor_bits, entry.factor_group_size)
        if any(block_size(factors, length) is None for length in (entry.rows, entry.columns)):
            return f"factors in groups of {entry.factor_group_size}: a multiple of 16, or channel, would work"
    if entry.bits is None:
        return None
    if entry.mask is not None and (entry.zero == "fractional" or entry.zero_bits is not None):
        return "a sparsity mask on a grid with fractional zero points"
    assert entry.group_size is not None
    grid = Grid(entry.bits, entry.group_size)
    if block_size(grid, entry.columns) is None:
        return f"groups of {entry.group_size}: a multiple of 16, or channel, would work"
    return None
