"""Which artifacts XNNPACK can hold as they are; told from the table, before any weight is read."""

from collections.abc import Sequence

from sottovoce.models.names import tied_table
from sottovoce.targets.executorch.layers import BLOCK, SMALL_BITS
from sottovoce.targets.run_time import kept_otherwise, without_operator
from sottovoce.weights.table import Entry


def refusals(entries: Sequence[Entry]) -> dict[str, str]:
    """The layers that cannot be held, each with the reason."""
    table = tied_table(entry.name for entry in entries)
    told = {e.name: _reason(e, multiplies=e.kind == "linear" or e.name == table) for e in entries}
    return {name: reason for name, reason in told.items() if reason}


def notes(entries: Sequence[Entry]) -> list[str]:
    """What is held, but not as small or as fast as in the artifact, or computed otherwise."""
    coded = [entry for entry in entries if entry.bits is not None]
    told = []
    if any(entry.kind == "linear" for entry in coded):
        told.append("inputs of quantized layers are quantized to 8 bits per vector at run time, by XNNPACK's own rule")
    told += kept_otherwise(entries, coded, (SMALL_BITS, 8))
    if any(entry.kind == "conv" for entry in coded):
        told.append("convolutions are written as float32: XNNPACK has no integer kernel for them")
    if any(entry.dtype in ("float16", "bfloat16") for entry in entries):
        told.append("float layers are written as float32")
    return told


def _reason(entry: Entry, *, multiplies: bool) -> str | None:
    if reason := without_operator(entry):
        return reason
    if entry.factor_bits is not None:
        return "quantized low-rank factors (quantize_lora) have no operator; without that step it would work"
    if entry.bits is None or entry.kind == "conv":
        return None
    if entry.zero == "fractional" or entry.scale_bits is not None:
        return "fractional zero points and quantized scales have no operator"
    if entry.kind == "embedding" and entry.rank is not None:
        return "a low-rank part of an embedding has no operator"
    return _no_product(entry) if multiplies else None


def _no_product(entry: Entry) -> str | None:
    """Why XNNPACK has no product of such a weight."""
    assert entry.bits is not None
    if not entry.symmetric:
        return "asymmetric grid (zero point); symmetric: true would work"
    if not isinstance(entry.group_size, int):
        return None
    if entry.bits > SMALL_BITS:
        return (
            f"{entry.bits} bits in groups of {entry.group_size}: a scale for each row (channel), or 4 bits, would work"
        )
    if entry.group_size % BLOCK:
        return f"groups of {entry.group_size}: a multiple of {BLOCK}, or channel, would work"
    if entry.scale_dtype != "bfloat16":
        return f"scales of groups in {entry.scale_dtype}: scale_dtype: bfloat16 would work"
    return None
