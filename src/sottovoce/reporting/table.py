"""Rows of a sweep as a table of words: which columns there are, and what each cell says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import PurePath
from typing import Literal

from sottovoce.measure.score import Score
from sottovoce.reporting.notes import failure_notes, notes
from sottovoce.reporting.pareto import on_front
from sottovoce.reporting.sets import average_wer, data_sets, rate_on, score_on
from sottovoce.sweeping.row import Row

NOTHING = "-"
STAR = "★"
MEGA, GIGA = 10**6, 10**9

_ERROR_CHARACTERS = 60  # of an error, in its cell; the whole stands below the table
_MOST_DECIMALS = 4

Tone = Literal["plain", "front", "loss", "failed"]
Values = Sequence[float | None]


@dataclass(frozen=True)
class Column:
    """A title, the side to which the cells lean, and what the numbers count ("" for words)."""

    title: str
    align: Literal["left", "right", "center"] = "left"
    unit: str = ""


@dataclass(frozen=True)
class Cell:
    """The words of a cell, and what a colour may say of it."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Table:
    """What every format shows.

    lines     one tuple of cells for each row, as long as `columns`
    notes     what the numbers mean and where they come from, a sentence each
    failures  the whole errors; a failed cell ends in the number of its own, from 1
    """

    columns: tuple[Column, ...]
    lines: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class _Filled:
    """A column with its cells; `always` keeps it where all are empty."""

    column: Column
    cells: tuple[Cell, ...]
    always: bool = False

    @property
    def stays(self) -> bool:
        return self.always or any(cell.text not in ("", NOTHING) for cell in self.cells)


def make_table(rows: Sequence[Row]) -> Table:
    """The table of rows, in the order of `arrange`; a column that says nothing is left out."""
    rows = arrange(rows)
    sets, names = data_sets(rows), model_names(rows)
    shown = [filled for filled in _columns(rows, sets, names) if filled.stays]
    return Table(
        tuple(filled.column for filled in shown),
        tuple(zip(*(filled.cells for filled in shown), strict=True)),
        notes(rows, sets),
        failure_notes(rows, names),
    )


def arrange(rows: Sequence[Row]) -> list[Row]:
    """The rows of a model together, the uncompressed one first, otherwise as they come."""
    models = list(dict.fromkeys(row.model for row in rows))
    return sorted(rows, key=lambda row: (models.index(row.model), row.compressed))


def model_names(rows: Sequence[Row]) -> dict[str, str]:
    """What each model is called: the last part of its path if that tells all models apart, else the whole."""
    models = dict.fromkeys(row.model for row in rows)
    short = {model: PurePath(model).name or model for model in models}
    return short if len(set(short.values())) == len(short) else {model: model for model in models}


def _columns(rows: Sequence[Row], sets: Sequence[str], names: dict[str, str]) -> list[_Filled]:
    """All columns in their order, those included that say nothing here."""
    averages = [average_wer(row, sets) for row in rows] if len(sets) > 1 else []
    stars = [Cell(STAR, "front") if kept else Cell("") for kept in on_front(rows)]
    return [
        _words("Model", [names[row.model] for row in rows], always=True),
        _words("Quantization", [row.quantization for row in rows], always=True),
        _words("Activations", [row.activations for row in rows]),
        _words("Sparsity", [row.sparsity for row in rows], always=True),
        _words("Low rank", [row.low_rank for row in rows]),
        _words("Structure", [row.structure for row in rows]),
        _words("Recovery", [row.recovery for row in rows]),
        _words("Trained on", [row.trained_on for row in rows]),
        _words("Calibration", [row.calibration for row in rows]),
        _sizes("MB", "10^6 bytes", _scaled([row.bytes for row in rows], MEGA), always=True),
        _sizes("bits/weight", "bits", [row.bits_per_weight for row in rows]),
        _sizes("GBOPs", "10^9 bit operations", _scaled([row.bit_operations for row in rows], GIGA)),
        _sizes("memory I/O MB", "10^6 bytes", _scaled([row.memory_bytes for row in rows], MEGA)),
        _times(rows),
        *_wers(rows, sets),
        *([_average(f"{rate_on(rows, sets)} avg", averages)] if averages else []),
        *_deltas(rows, sets),
        _Filled(Column("Pareto", "center"), tuple(stars)),
    ]


def _words(title: str, said: Sequence[str], always: bool = False) -> _Filled:
    return _Filled(Column(title), tuple(Cell(" ".join(text.split()) or NOTHING) for text in said), always)


def _sizes(title: str, unit: str, values: Values, always: bool = False) -> _Filled:
    """Numbers with as many decimals as give the least of them three figures."""
    least = min((abs(v) for v in values if v and math.isfinite(v)), default=1.0)
    decimals = min(max(2 - math.floor(math.log10(least)), 0), _MOST_DECIMALS)
    cells = (Cell(NOTHING if value is None else f"{value:,.{decimals}f}") for value in values)
    return _Filled(Column(title, "right", unit), tuple(cells), always)


def _scaled(values: Values, unit: int) -> Values:
    return [None if value is None else value / unit for value in values]


def _times(rows: Sequence[Row]) -> _Filled:
    """The milliseconds of a row and, of a compressed model, how many times the uncompressed one's: "42.2 (× 0.64)"."""
    numbers = _sizes("ms", "milliseconds", [row.milliseconds for row in rows])
    cells = (Cell(cell.text + row.of_uncompressed) for cell, row in zip(numbers.cells, rows, strict=True))
    return replace(numbers, cells=tuple(cells))


def _average(title: str, values: Values) -> _Filled:
    return _Filled(Column(title, "right", "percent"), tuple(map(_wer, values)))


def _wers(rows: Sequence[Row], sets: Sequence[str]) -> list[_Filled]:
    """A column for each data set, or one without; an error is told in the first."""
    found = []
    for data in sets or [""]:
        scores = [score_on(row, data) for row in rows]
        cells = tuple(_wer(score.wer if score else None) for score in scores)
        found.append(_Filled(Column(f"{rate_on(rows, [data])} {data}".strip(), "right", "percent"), cells, always=True))
    numbers = count(1)
    told = [_failed(row.error, next(numbers)) if row.error is not None else None for row in rows]
    first = tuple(error or cell for error, cell in zip(told, found[0].cells, strict=True))
    return [replace(found[0], cells=first), *found[1:]]


def _wer(wer: float | None) -> Cell:
    return Cell(NOTHING if wer is None else f"{wer:.2f}")


def _failed(error: str, number: int) -> Cell:
    text = " ".join(error.split())
    rest = "…" if len(text) > _ERROR_CHARACTERS else ""
    return Cell(f"failed: {text[:_ERROR_CHARACTERS].rstrip()}{rest} [{number}]", "failed")


def _deltas(rows: Sequence[Row], sets: Sequence[str]) -> list[_Filled]:
    """The difference to the uncompressed model on each data set."""
    rates = [f"delta {rate_on(rows, [data])}" for data in sets]
    names = [""] if len(sets) == 1 else [f" {data}" for data in sets]
    titles = [f"{rate}{name} [95 %]" for rate, name in zip(rates, names, strict=True)]
    return [
        _Filled(Column(title, "right", "percent points"), tuple(_delta(score_on(row, data)) for row in rows))
        for title, data in zip(titles, sets, strict=True)
    ]


def _delta(score: Score | None) -> Cell:
    if score is None or score.delta_wer is None:
        return Cell(NOTHING)
    words = [f"{score.delta_wer:+.2f}"]
    if score.delta_wer_interval:
        low, high = score.delta_wer_interval
        words.append(f"[{low:+.2f}, {high:+.2f}]")
    if score.verdict == "no significant difference":
        words.append("n.s.")
    return Cell(" ".join(words), "loss" if score.verdict == "worse" else "plain")
