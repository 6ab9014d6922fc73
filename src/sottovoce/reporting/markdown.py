"""The table in Markdown (GitHub's tables), aligned so that the source can be read too."""

import re

from sottovoce.reporting.table import Column, Table

_LINE = {"left": (":", "-"), "right": ("-", ":"), "center": (":", ":")}


def markdown(table: Table) -> str:
    """The table, its notes as a list, its errors as a numbered list."""
    grid = [[escape(column.title) for column in table.columns]]
    grid += [[escape(cell.text) for cell in line] for line in table.lines]
    widths = [max(3, *(len(line[i]) for line in grid)) for i in range(len(table.columns))]
    texts = [_row([_pad(t, w, c) for t, w, c in zip(line, widths, table.columns, strict=True)]) for line in grid]
    texts.insert(1, _row([_rule(w, c) for w, c in zip(widths, table.columns, strict=True)]))
    blocks = ["\n".join(texts)]
    if table.notes:
        blocks.append("\n".join(f"- {escape(note)}" for note in table.notes))
    if table.failures:
        blocks.append("\n".join(f"{number}. {escape(error)}" for number, error in enumerate(table.failures, 1)))
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no mathematics, no link, no new cell."""
    text = re.sub(r"([\\`*_<>&|~$])", r"\\\1", text)
    return re.sub(r"\](?=\(|\[)", r"]\\", text)  # a pair of brackets alone is no link, so intervals stay readable


def _row(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _pad(text: str, width: int, column: Column) -> str:
    return {"left": text.ljust, "right": text.rjust, "center": text.center}[column.align](width)


def _rule(width: int, column: Column) -> str:
    first, last = _LINE[column.align]
    return first + "-" * (width - 2) + last
