"""A grid as the options of a recipe and of an artifact's table, and back."""

from collections.abc import Mapping
from typing import Any

from sottovoce.numbers.grid import SCALE_DTYPES, Grid


def grid_of(options: Mapping[str, Any]) -> Grid:
    """The Grid that filled options describe."""
    return Grid(options["bits"], options["group_size"], options["symmetric"], SCALE_DTYPES[options["scale_dtype"]])


def grid_as_options(grid: Grid) -> dict[str, Any]:
    """The inverse of `grid_of`: JSON-able options."""
    dtype = {value: name for name, value in SCALE_DTYPES.items()}[grid.scale_dtype]
    return {
        "bits": grid.bits,
        "group_size": grid.group_size,
        "symmetric": grid.symmetric,
        "scale_dtype": dtype,
    }
