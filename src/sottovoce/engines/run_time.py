"""What happens to inputs and caches at run time, for which a runtime that only multiplies by weights has no place."""

from collections.abc import Iterable

from sottovoce.path_table import TurnEntry
from sottovoce.table import Entry


def changed_at_run_time(entries: Iterable[Entry], turns: Iterable[TurnEntry]) -> dict[str, str]:
    """The modules of a table to which something happens at run time, each with what that is."""
    found = {turn.name: "its stream is turned at run time (quarot, spinquant)" for turn in turns}
    for entry in entries:
        if entry.input is not None:
            found[entry.name] = "what it reads is changed at run time (activations, llm_int8, osplus, a turn)"
        elif entry.output is not None:
            found[entry.name] = "the cache is kept in float (kv_cache)"
    return found
