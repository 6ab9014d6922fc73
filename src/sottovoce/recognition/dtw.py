"""Dynamic time warping: the cheapest way through a table of costs that goes down or right or both."""

import numpy as np

_DIAGONAL, _UP, _LEFT = range(3)


def warp(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows and the columns of the cheapest path from the first cell of (rows, columns) to the last.

    Of ways that cost the same, the diagonal goes first, then down. Sakoe and Chiba, 1978. A diagonal of cells depends
    on the two before it only, so each is one operation.
    """
    rows, columns = cost.shape
    best = np.full((rows + 1, columns + 1), np.inf, np.float64)
    best[0, 0] = 0.0
    came = np.zeros((rows + 1, columns + 1), np.int8)
    for total in range(2, rows + columns + 1):
        i = np.arange(max(1, total - columns), min(rows, total - 1) + 1)
        j = total - i
        before = np.stack([best[i - 1, j - 1], best[i - 1, j], best[i, j - 1]])
        way = before.argmin(0)
        came[i, j] = way
        best[i, j] = cost[i - 1, j - 1] + before[way, np.arange(len(i))]
    return _traced(came)


def _traced(came: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, j = came.shape[0] - 1, came.shape[1] - 1
    path = []
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        way = came[i, j]
        i, j = i - (way != _LEFT), j - (way != _UP)
    found = np.array(path[::-1])
    return found[:, 0], found[:, 1]
