"""The rows in JSON, as the sweep keeps them, each with its place on the Pareto front."""

from collections.abc import Sequence
from dataclasses import asdict

from sottovoce.files.atomic import json_text
from sottovoce.reporting.pareto import on_front
from sottovoce.sweeping.row import Row


def json(rows: Sequence[Row]) -> str:
    """{"rows": [...]} with all fields of a row and `pareto`, true or false."""
    kept = on_front(rows)
    return json_text({"rows": [{**asdict(row), "pareto": front} for row, front in zip(rows, kept, strict=True)]})
