"""Which artifacts compressed-tensors can hold as they are; told from the table, before any weight is read."""

from collections.abc import Sequence

from sottovoce.targets.run_time import beside_integers, changed_at_run_time
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry

_FLOAT_BYTES = 4  # a level times its scale is rarely a float16


def refusals(entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> dict[str, str]:
    """The layers that cannot be held, each with the reason."""
    if not any(is_packed(entry) for entry in entries):
        told = "no linear layer is quantized, so there is nothing to pack; --to safetensors writes floats"
        return {entry.name: told for entry in entries if entry.kind == "linear"}
    reasons = {entry.name: reason for entry in entries if (reason := _reason(entry))}
    return reasons | changed_at_run_time(entries, turns)


def notes(entries: Sequence[Entry]) -> list[str]:
    """What is held, but not as small as in the artifact, or not for all who read the format."""
    told = []
    if spread := [entry for entry in entries if entry.bits is not None and entry.kind != "linear"]:
        now, then = sum(_FLOAT_BYTES * entry.weights for entry in spread), sum(entry.bytes for entry in spread)
        told.append(
            f"{len(spread)} embeddings and convolutions are written as floats, which is all that transformers loads "
            f"there: {now / 1e6:.2f} MB, in the artifact {then / 1e6:.2f}"
        )
    packed = [entry for entry in entries if is_packed(entry)]
    if any(entry.mask for entry in entries):
        told.append("a sparsity mask is written as zeros: it saves neither bytes nor time")
    if odd := sorted({entry.bits for entry in packed if entry.bits not in (4, 8)}, key=lambda bits: bits or 0):
        told.append(f"transformers loads codes of {', '.join(map(str, odd))} bits, vLLM those of 4 and 8")
    return told


def is_packed(entry: Entry) -> bool:
    """Whether a layer's own integers are in the file; what else there is becomes floats."""
    return entry.kind == "linear" and entry.bits is not None


def _reason(entry: Entry) -> str | None:
    if not is_packed(entry):
        return None
    if reason := beside_integers(entry):
        return reason
    if entry.zero == "fractional":
        return "fractional zero points (hqq without round_zero, spqr)"
    return None
