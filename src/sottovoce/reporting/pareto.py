"""The Pareto front: what nothing else beats in size and in WER at once. Pure functions."""

import math
from collections.abc import Sequence
from itertools import groupby

from sottovoce.reporting.sets import average_wer, data_sets
from sottovoce.sweeping.row import Row


def front(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Which points no other dominates; less is better in both numbers.

    A point dominates another if it is no worse in both numbers and better in one, so equal points stay
    together. A point with None, NaN or infinity is not on the front and dominates nothing.
    """
    numbers = {i: (x, y) for i, (x, y) in enumerate(points) if x is not None and y is not None and _finite(x, y)}
    kept: set[int] = set()
    least = math.inf  # of the second number, over all points with a smaller first one
    by_size = sorted(numbers, key=lambda i: numbers[i])
    for _, same in groupby(by_size, key=lambda i: numbers[i][0]):
        column = list(same)
        lowest = numbers[column[0]][1]
        if lowest < least:
            kept.update(i for i in column if numbers[i][1] == lowest)
            least = lowest
    return [i in kept for i in range(len(points))]


def on_front(rows: Sequence[Row]) -> list[bool]:
    """Which rows are on the front of their model, by bytes and average WER."""
    sets = data_sets(rows)
    found = [False] * len(rows)
    for model in dict.fromkeys(row.model for row in rows):
        places = [i for i, row in enumerate(rows) if row.model == model]
        points = [(rows[i].bytes, average_wer(rows[i], sets)) for i in places]
        for place, kept in zip(places, front(points), strict=True):
            found[place] = kept
    return found


def _finite(x: float, y: float) -> bool:
    return math.isfinite(x) and math.isfinite(y)
