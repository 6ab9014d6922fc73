"""The verb `report`: a sweep's rows as a table in five files, one of them a page with a plot."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from json import loads
from pathlib import Path

from sottovoce.files.atomic import sha256, write_text
from sottovoce.files.sealed import seal, unchanged
from sottovoce.measure.run import check_output
from sottovoce.reporting.csv import csv
from sottovoce.reporting.html import html
from sottovoce.reporting.json import json
from sottovoce.reporting.latex import latex
from sottovoce.reporting.markdown import markdown
from sottovoce.reporting.table import Table, arrange, make_table
from sottovoce.sweeping.row import Row, read_rows

SEALED = "table.json"  # lists the others with their hashes, so that a later report knows them


@dataclass(frozen=True)
class Report:
    """The rows in the order of the table, the table, and the files that were written."""

    rows: tuple[Row, ...]
    table: Table
    files: tuple[Path, ...]


def report(folder: str | Path, *, output: str | Path) -> Report:
    """Read the rows of a sweep's folder and write table.md, .csv, .tex, .json and report.html into `output`.

    An older report's files are replaced, unless they were edited. Raises ValueError if the folder holds no rows, if
    `output` cannot be written, holds a model, or holds a file of such a name that no report has written as it is.
    """
    output = Path(output)
    check_output(output)
    rows = arrange(read_rows(folder))
    table = make_table(rows)
    texts = {
        "table.md": markdown(table),
        "table.csv": csv(rows),
        "table.tex": latex(table),
        "report.html": html(table, rows),
    }
    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    _check_own(output, hashes)
    for name, text in texts.items():
        write_text(output / name, text)
    seal(output / SEALED, {**loads(json(rows)), "files": hashes})
    names = ("table.md", "table.csv", "table.tex", SEALED, "report.html")
    return Report(tuple(rows), table, tuple(output / name for name in names))


def _check_own(output: Path, hashes: Mapping[str, str]) -> None:
    """Raise ValueError for a file in the way that a report did not write, nor would write now: a user's own."""
    own = unchanged(output / SEALED)
    for name in (*hashes, SEALED):
        file = output / name
        if file.exists() and name not in own and not (file.is_file() and sha256(file) == hashes.get(name)):
            raise ValueError(
                f"output {output} holds {name}, which is not as a report wrote it and would be lost; move it, or name "
                "another folder"
            )
