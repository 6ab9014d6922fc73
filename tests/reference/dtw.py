"""Dynamic time warping by all paths: the obvious way, for small tables."""

from functools import cache


def cheapest(cost):
    """The least sum of costs along any path from the first cell to the last, down, right or both at each step."""
    rows, columns = len(cost), len(cost[0])

    @cache
    def best(i, j):
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        reached = [best(*cell) for cell in before if min(cell) >= 0]
        return cost[i][j] + (min(reached) if reached else 0.0)

    return best(rows - 1, columns - 1)


def median(values, width):
    """Of a list mirrored at its ends, the middle of each `width` neighbours."""
    half = width // 2
    mirrored = [values[abs(i)] if i < len(values) else values[2 * len(values) - 2 - i] for i in range(-half, 0)]
    mirrored += values
    mirrored += [values[len(values) - 2 - i] for i in range(half)]
    return [sorted(mirrored[i : i + width])[half] for i in range(len(values))]
