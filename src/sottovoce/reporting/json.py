"""The rows in JSON, as the sweep keeps them, each with its place on the Pareto front."""

import json as standard
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sottovoce.measure.row import Row
from sottovoce.reporting.pareto import on_front


def json(rows: Sequence[Row]) -> str:
    """The text of `document`."""
    return standard.dumps(document(rows), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """{"rows": [...]} with all fields of a row and `pareto`, true or false.

    A number that is not finite is None here, because JSON has no word for it.
    """
    kept = on_front(rows)
    return {"rows": [{**_plain(asdict(row)), "pareto": front} for row, front in zip(rows, kept, strict=True)]}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
