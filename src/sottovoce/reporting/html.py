"""The table and the plot as one HTML file: no script, no font, no picture from elsewhere."""

from collections.abc import Sequence
from html import escape

from sottovoce.reporting.curves import curves
from sottovoce.reporting.plot import marker, plot
from sottovoce.reporting.sets import data_sets, rate_on
from sottovoce.reporting.style import STYLE
from sottovoce.reporting.table import Cell, Column, Table, model_names
from sottovoce.sweeping.row import Row

_RATES = {"WER": "word error rate", "CER": "character error rate", "WER/CER": "error rate"}


def html(table: Table, rows: Sequence[Row]) -> str:
    """The page; `rows` are those of the table, for the plot."""
    rate = _RATES[rate_on(rows, data_sets(rows))]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>sottovoce: size and {rate}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Size and {rate}</h1>
{_figure(rows)}
<div class="wide">
<table>
<thead><tr>{"".join(_head(column) for column in table.columns)}</tr></thead>
<tbody>
{_body(table)}
</tbody>
</table>
</div>
<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in table.notes)}</ul>
{curves(rows, model_names(rows))}
{_failures(table)}
</body>
</html>
"""


def _figure(rows: Sequence[Row]) -> str:
    names = model_names(rows)
    drawn = plot(rows, names)
    if not drawn:
        return "<p>No row has both a size and an error rate, so there is no plot.</p>"
    keys = "".join(f"<li>{marker(names, model)} {escape(name)}</li>" for model, name in names.items())
    caption = (
        "Filled and joined: on the Pareto front of its model, which no other row beats in size and error rate at once."
    )
    return f'<figure>\n{drawn}\n<ul class="legend">{keys}</ul>\n<figcaption>{caption}</figcaption>\n</figure>'


def _head(column: Column) -> str:
    unit = f' title="{escape(column.unit)}"' if column.unit else ""
    return f'<th scope="col" class="{column.align}"{unit}>{escape(column.title)}</th>'


def _body(table: Table) -> str:
    return "\n".join(f"<tr>{_line(line, table.columns)}</tr>" for line in table.lines)


def _line(line: Sequence[Cell], columns: Sequence[Column]) -> str:
    """The cells of a row; an error takes the place of those after it, which say nothing."""
    texts: list[str] = []
    for place, (cell, column) in enumerate(zip(line, columns, strict=True)):
        if cell.tone == "failed":
            return "".join(texts) + f'<td class="failed" colspan="{len(line) - place}">{escape(cell.text)}</td>'
        texts.append(f'<td class="{column.align} {cell.tone}">{escape(cell.text)}</td>')
    return "".join(texts)


def _failures(table: Table) -> str:
    errors = "".join(f"<li>{escape(error)}</li>" for error in table.failures)
    return f'<h2>Failed</h2>\n<ol class="notes">{errors}</ol>' if errors else ""
