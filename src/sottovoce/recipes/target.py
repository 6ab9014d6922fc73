"""The table that a recipe will leave, as far as its text tells it, so that a runtime refuses before the work."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sottovoce.numbers.grid_options import grid_of
from sottovoce.recipes.recipe import Step
from sottovoce.recipes.select import Selection
from sottovoce.targets import find_runtime
from sottovoce.weights.part import DTYPE_NAMES
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import LayerShape

SHOWN = 6


def expected_entries(
    selection: Selection, entries: Iterable[Entry], components: Mapping[str, frozenset[str]]
) -> list[Entry]:
    """The entries behind the recipe: grids and masks as its steps say; what only the work tells is left as it was."""
    found = {entry.name: entry for entry in entries}
    if selection.last is not None:
        found = {name: _shaped(found[name], shape) for name, shape in selection.last.items() if name in found}
    for step, names in zip(selection.recipe.steps, selection.layers, strict=True):
        for name in (name for name in names if name in found):  # a later step may drop it
            found[name] = _behind(step.on(components.get(name, frozenset())), found[name])
    return list(found.values())


def _shaped(entry: Entry, shape: LayerShape) -> Entry:
    """The entry with as many rows and columns; a convolution's shape no step changes."""
    return entry if entry.kind == "conv" else replace(entry, shape=(shape.rows, shape.columns))


def _behind(step: Step, entry: Entry) -> Entry:
    if "mask" in step.method.parts:
        entry = replace(entry, mask="bitmap")
    if "wrappers" in step.method.parts:
        entry = replace(entry, wrapper_size=step.options["block_size"], wrapper_dtype=step.options["dtype"])
    if step.method.owns != "base" or not step.method.options.takes_grid:
        return entry
    grid = grid_of(step.options)
    return replace(
        entry,
        dtype=None,
        bits=grid.bits,
        group_size=grid.group_size,
        symmetric=grid.symmetric,
        scale_dtype=DTYPE_NAMES[grid.scale_dtype],
        zero=None if grid.symmetric else "integer",
    )


def check_target(
    to: str, selection: Selection, entries: Iterable[Entry], components: Mapping[str, frozenset[str]]
) -> None:
    """Raise ValueError, layer by layer, if the runtime `to` could not hold what the recipe leaves."""
    runtime = find_runtime(to)
    refused = {
        **runtime.refusals(expected_entries(selection, entries, components), ()),
        **runtime.refused_widths(selection.widths),
    }
    told = table_of(refused)
    if refused:
        raise ValueError(
            f"recipe {selection.recipe.name} names {runtime.title} as its target, which could not hold {len(refused)} "
            f"of the layers:\n{told}"
        )


def table_of(refused: Mapping[str, str]) -> str:
    """Refused layers, a line each with the reason; of many the first."""
    lines = [f"  {name}: {reason}" for name, reason in list(refused.items())[:SHOWN]]
    return "\n".join([*lines, *([f"  and {len(refused) - SHOWN} more"] if len(refused) > SHOWN else [])])
