"""The rows in CSV: numbers as they were measured, one column for each field, for programs to read."""

import csv as standard
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sottovoce.measure.score import Score
from sottovoce.reporting.pareto import on_front
from sottovoce.reporting.sets import average_wer, data_sets, score_on
from sottovoce.sweeping.row import Row


def csv(rows: Sequence[Row]) -> str:
    """A header and one line for each of at least one row; what is missing is empty.

    A field of a score has a column for each data set, as "wer test-clean"; `wer` alone is the average over
    all of them. A wer is a CER where `unit` is "character". The interval is two columns, delta_wer_low and
    delta_wer_high. `languages`, `notes`, `workload`, `timing` and `recipe_document` are JSON; `pareto` is 1 or 0. The
    training curves are in table.json.
    """
    sets = data_sets(rows)
    lines = [{**_record(row, sets), "pareto": int(kept)} for row, kept in zip(rows, on_front(rows), strict=True)]
    text = io.StringIO()
    writer = standard.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _record(row: Row, sets: Sequence[str]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for field in fields(Row):
        value = getattr(row, field.name)
        if field.name == "curve":
            continue
        if field.name == "scores":
            record["wer"] = average_wer(row, sets)
            for data in sets:
                record |= _score_record(row, data)
        else:
            record[field.name] = json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value
    return record


def _score_record(row: Row, data: str) -> dict[str, Any]:
    """The score on one data set; every field is there, empty without a score."""
    score = score_on(row, data)
    record: dict[str, Any] = dict.fromkeys(field.name for field in fields(Score))
    record |= score.as_document() if score else {}
    del record["data"]
    record |= {name: json.dumps(record[name], ensure_ascii=False) for name in ("languages", "notes") if record[name]}
    low, high = record.pop("delta_wer_interval") or (None, None)
    record |= {"delta_wer_low": low, "delta_wer_high": high}
    return {f"{name} {data}": value for name, value in record.items()}
