"""What rows were scored on: the data sets of a table, and averages over them that may be compared."""

from collections.abc import Sequence

from sottovoce.measure.score import Score
from sottovoce.speech.units import RATES, unit_of_all
from sottovoce.sweeping.row import Row


def data_sets(rows: Sequence[Row]) -> tuple[str, ...]:
    """The names of the data sets, in the order in which the rows name them."""
    return tuple(dict.fromkeys(score.data for row in rows for score in row.scores))


def score_on(row: Row, data: str) -> Score | None:
    """The score of a row on one data set; None if it failed or was not scored there."""
    if row.error is not None:
        return None
    return next((score for score in row.scores if score.data == data), None)


def rate_on(rows: Sequence[Row], sets: Sequence[str]) -> str:
    """What the error rates on `sets` are: "WER", "CER" where characters are counted, "WER/CER" where both are."""
    scores = [score for row in rows for data in sets if (score := score_on(row, data)) is not None]
    return RATES[unit_of_all(score.unit for score in scores)]


def average_wer(row: Row, sets: Sequence[str]) -> float | None:
    """The macro average of the WER over `sets`, in percent; None unless the row was scored on each of them.

    An average over fewer sets is another number, which must not stand in the same column.
    """
    wers = [score.wer for score in (score_on(row, data) for data in sets) if score is not None]
    return sum(wers) / len(wers) if wers and len(wers) == len(sets) else None
