"""What a layer is made of, or what happens to it at run time, for which runtimes have no place."""

from collections.abc import Iterable, Sequence

from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry


def changed_at_run_time(entries: Iterable[Entry], turns: Iterable[TurnEntry]) -> dict[str, str]:
    """The modules of a table to which something happens at run time, each with what that is."""
    found = {turn.name: "its stream is turned at run time (quarot, spinquant)" for turn in turns}
    for entry in entries:
        if entry.input is not None:
            found[entry.name] = "what it reads is changed at run time (activations, llm_int8, osplus, a turn)"
        elif entry.output is not None:
            found[entry.name] = "the cache is kept in float (kv_cache)"
    return found


def without_operator(entry: Entry) -> str | None:
    """Why a runtime of plain grids, which rounds activations to 8 bits by its own rule, cannot hold a layer."""
    if reason := no_levels(entry):
        return reason
    if entry.output is not None:
        return "the cache is kept in float (kv_cache has no operator)"
    if entry.input is not None and entry.input.rounding is not None:
        rounding = entry.input.rounding
        if rounding.threshold is not None:
            return "columns that stay float at run time (llm_int8) have no operator"
        if rounding.bits != 8 or rounding.per != "token":
            return f"inputs are rounded at run time to 8 bits, by a rule of the runtime, not as {rounding.text}"
        if entry.bits is None:
            return "inputs are rounded where the weight is integers, which it is not"
    return None


def beside_integers(entry: Entry) -> str | None:
    """Why a format that has integers and nothing beside them cannot hold a layer."""
    if entry.rank is not None and entry.bits is not None:
        return "a low-rank term (low_rank, lora) cannot be said beside integers"
    return no_levels(entry)


def no_levels(entry: Entry) -> str | None:
    """Why a layer's codes are no levels of a grid, all of them."""
    if entry.palette is not None:
        return "codes name places in a table of values (palettize), not levels"
    if entry.outliers:
        return "outliers in place (spqr, palettize) cannot be said beside integers"
    return None


def kept_otherwise(entries: Iterable[Entry], coded: Iterable[Entry], widths: Sequence[int]) -> list[str]:
    """Notes on masks, and on codes of `coded` that a format keeps in the next of its `widths`."""
    told = []
    if any(entry.mask for entry in entries):
        told.append("a mask is kept as zeros: it takes no fewer bytes and no less time")
    if odd := sorted({entry.bits for entry in coded if entry.bits not in widths}, key=lambda bits: bits or 0):
        named = [str(width) for width in widths]
        into = f"the next of {', '.join(named[:-1])} and {named[-1]} bits" if named[1:] else named[0]
        told.append(f"codes of {', '.join(map(str, odd))} bits are kept in {into}")
    return told
