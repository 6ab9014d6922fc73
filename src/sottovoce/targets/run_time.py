"""What a layer is made of, or what happens to it at run time, for which runtimes have no place."""

from collections.abc import Iterable, Sequence, Set

from sottovoce.weights.parts import held
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry

INTEGERS = frozenset({"floats", "grid", "mask"})  # parts of a format that has integers and nothing beside them
FACTORS = frozenset({"low_rank", "factor_mask"})


def changed_at_run_time(entries: Iterable[Entry], turns: Iterable[TurnEntry]) -> dict[str, str]:
    """The modules of a table to which something happens at run time, each with what that is."""
    found = {turn.name: "its residual stream is rotated at run time (quarot, spinquant)" for turn in turns}
    for entry in entries:
        if entry.input is not None:
            found[entry.name] = (
                "its input is changed at run time (activations, sparsify_activations, llm_int8, osplus, a rotation)"
            )
        elif entry.output is not None:
            found[entry.name] = "the key-value cache stays float (kv_cache)"
    return found


def without_operator(entry: Entry, also: Set[str] = frozenset()) -> str | None:
    """Why a runtime of plain grids, which rounds activations to 8 bits by its own rule, cannot hold a layer.

    also  parts that it takes beside grids, masks and factors
    """
    if reason := not_taken(entry, INTEGERS | FACTORS | also):
        return reason
    if entry.output is not None:
        return "the key-value cache stays float (kv_cache has no operator)"
    if entry.input is not None and entry.input.rounding is not None:
        rounding = entry.input.rounding
        if rounding.threshold is not None:
            return "float outlier columns (llm_int8) have no operator"
        if rounding.bits != 8 or rounding.per != "token":
            return f"the runtime quantizes inputs to 8 bits by its own rule, not as {rounding.text}"
        if entry.bits is None:
            return "inputs are quantized only where the weight is integers, and this one is float"
    return None


def beside_integers(entry: Entry) -> str | None:
    """Why a format that has integers and nothing beside them cannot hold a layer."""
    return not_taken(entry, INTEGERS if entry.bits is not None else INTEGERS | FACTORS)


def not_taken(entry: Entry, parts: Set[str]) -> str | None:
    """Why a format that takes some parts of a weight, by their names, cannot hold a layer."""
    return next((part.refusal for part in held(entry) if part.name not in parts), None)


def kept_otherwise(entries: Iterable[Entry], coded: Iterable[Entry], widths: Sequence[int]) -> list[str]:
    """Notes on masks, and on codes of `coded` that a format keeps in the next of its `widths`."""
    told = []
    if any(entry.mask or entry.factor_mask for entry in entries):
        told.append("a sparsity mask is written as zeros: it saves neither bytes nor time")
    if odd := sorted({entry.bits for entry in coded if entry.bits not in widths}, key=lambda bits: bits or 0):
        named = [str(width) for width in widths]
        into = f"the next of {', '.join(named[:-1])} and {named[-1]} bits" if named[1:] else named[0]
        told.append(f"codes of {', '.join(map(str, odd))} bits are kept in {into}")
    return told
