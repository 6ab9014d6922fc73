"""A table made to fit a terminal: fewer columns and folded cells, before words break in two. Pure functions."""

import re
from dataclasses import replace

from rich.cells import cell_len

from sottovoce.reporting.table import NOTHING, Cell, Column, Table

GAP = 2  # between columns
LEAST = 16  # of the column that holds all the words and folds to what is left

_SPARED_FIRST = ("memory I/O MB", "GBOPs", "bits/weight")


def narrow(table: Table, width: int) -> Table:
    """The table as it is if it fits into `width`, else the first that does of these, each added to the last.

    One column tells quantization, sparsity, low rank and calibration, and an interval stands below its
    difference; then costs are left out one by one, of which a note tells. The last is returned in any case.
    """
    if full_width(table) <= width:
        return table
    table = _joined(replace(table, lines=tuple(tuple(map(_folded, line)) for line in table.lines)))
    spared: list[str] = []
    for title in _SPARED_FIRST:
        if full_width(table) - column_width(table, 1) + LEAST <= width:
            break
        if title in (column.title for column in table.columns):
            table = _without(table, title)
            spared.append(title)
    if spared:
        table = replace(table, notes=(*table.notes, f"Left out for want of width: {', '.join(spared)}."))
    return table


def full_width(table: Table) -> int:
    """The columns of a terminal that the table fills if only titles fold."""
    return sum(column_width(table, place) + GAP for place in range(len(table.columns))) - GAP


def column_width(table: Table, place: int) -> int:
    """The widest line of a cell, or the widest word of the title."""
    return max(_cells_width(table, place), *map(cell_len, title(table, place).split()))


def title(table: Table, place: int) -> str:
    """The title; if wider than the cells, broken before a bracket and after "-" and "/" in words that are too."""
    width, text = _cells_width(table, place), table.columns[place].title
    if cell_len(text) <= width:
        return text
    words = text.replace(" [", "\n[").split(" ")
    return " ".join(word if cell_len(word) <= width else re.sub(r"(?<=\w{2}[-/])(?=\w)", "\n", word) for word in words)


def _cells_width(table: Table, place: int) -> int:
    lines = [text for line in table.lines for text in line[place].text.splitlines()]
    return max(map(cell_len, lines), default=0)


def _folded(cell: Cell) -> Cell:
    """A difference above its interval, and only the number of an error, which stands below the table."""
    if cell.tone == "failed":
        return replace(cell, text=f"failed\n{cell.text.split()[-1]}")
    return replace(cell, text=re.sub(r"^([+-]\S+) (\[.+\])( n\.s\.)?$", r"\1\3\n\2", cell.text))


def _joined(table: Table) -> Table:
    """The columns of words after the model's as one."""
    words = [place for place, column in enumerate(table.columns) if column.align == "left"][1:]
    rest = words[-1] + 1
    lines = []
    for line in table.lines:
        said = ", ".join(line[place].text for place in words if line[place].text != NOTHING)
        lines.append((line[0], Cell(said or NOTHING), *line[rest:]))
    column = Column(", ".join(table.columns[place].title for place in words))
    return replace(table, columns=(table.columns[0], column, *table.columns[rest:]), lines=tuple(lines))


def _without(table: Table, title: str) -> Table:
    kept = [place for place, column in enumerate(table.columns) if column.title != title]
    lines = tuple(tuple(line[place] for place in kept) for line in table.lines)
    return replace(table, columns=tuple(table.columns[place] for place in kept), lines=lines)
