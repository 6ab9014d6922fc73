"""The verb `report`: a sweep's rows as a table in five files, one of them a page with a plot."""

from dataclasses import dataclass
from pathlib import Path

from sottovoce.files import write_text
from sottovoce.measure.row import Row, read_rows
from sottovoce.reporting.csv import csv
from sottovoce.reporting.html import html
from sottovoce.reporting.json import json
from sottovoce.reporting.latex import latex
from sottovoce.reporting.markdown import markdown
from sottovoce.reporting.table import Table, arrange, make_table


@dataclass(frozen=True)
class Report:
    """The rows in the order of the table, the table, and the files that were written."""

    rows: tuple[Row, ...]
    table: Table
    files: tuple[Path, ...]


def report(folder: str | Path, *, output: str | Path) -> Report:
    """Read the rows of a sweep's folder and write table.md, .csv, .tex, .json and report.html into `output`.

    Files of those names are replaced. Raises ValueError if the folder holds no rows or `output` is a file.
    """
    output = Path(output)
    file = next((path for path in (output, *output.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise ValueError(f"{file} is a file; name a folder to write the report into")
    rows = arrange(read_rows(folder))
    table = make_table(rows)
    texts = {
        "table.md": markdown(table),
        "table.csv": csv(rows),
        "table.tex": latex(table),
        "table.json": json(rows),
        "report.html": html(table, rows),
    }
    for name, text in texts.items():
        write_text(output / name, text)
    return Report(tuple(rows), table, tuple(output / name for name in texts))
