r"""The table in LaTeX: a tabular of the package booktabs, with its notes below.

Needs \usepackage{booktabs}.
"""

import re

from sottovoce.reporting.table import NOTHING, STAR, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",  # an inverted exclamation mark in the old encoding
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "…": r"\dots{}",
    STAR: r"$\star$",
    **{character: f"\\{character}" for character in "%_&#${}"},
}
_ALIGN = {"left": "l", "right": "r", "center": "c"}


def latex(table: Table) -> str:
    """The tabular, then the notes and the errors in a paragraph of their own."""
    lines = [
        rf"\begin{{tabular}}{{{''.join(_ALIGN[column.align] for column in table.columns)}}}",
        r"\toprule",
        _row([escape(column.title) for column in table.columns]),
        r"\midrule",
        *(_row([_cell(cell.text) for cell in line]) for line in table.lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    below = [*table.notes, *(f"[{number}] {error}" for number, error in enumerate(table.failures, 1))]
    if below:
        lines += ["", r"{\footnotesize\noindent", "\\\\\n".join(_start(_signed(note)) for note in below), r"\par}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _cell(text: str) -> str:
    return "--" if text == NOTHING else _signed(text)


def _signed(text: str) -> str:
    """Escaped, with a minus sign where a hyphen stands before a number: "[-0.26, +1.03]"."""
    return re.sub(r"(?<![\w.})-])-(?=\d)", r"$-$", escape(text))


def _row(texts: list[str]) -> str:
    return rf"{_start(' & '.join(texts))} \\"


def _start(text: str) -> str:
    r"""The command \\ takes a star or a bracket after it for its own."""
    return "{}" + text if text.startswith(("*", "[")) else text
