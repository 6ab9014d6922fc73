"""Merging of neighbouring blocks, tried out and summed number by number."""

from itertools import combinations, pairwise

import numpy as np


def average(first, second, share):
    """Two lists of numbers, in float64."""
    return [share * a + (1 - share) * b for a, b in zip(first, second, strict=True)]


def least_sum(costs, count):
    """The least sum of `count` costs, no two of them neighbours; None if there are not so many."""
    sums = [
        sum(costs[i] for i in chosen)
        for chosen in combinations(range(len(costs)), count)
        if all(b - a > 1 for a, b in pairwise(chosen))
    ]
    return min(sums, default=None)


def similarity(hidden):
    """The mean cosine of neighbours among (positions, channels) outputs of blocks, position by position."""
    found = []
    for one, other in pairwise(hidden):
        cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(one, other, strict=True)]
        found.append(sum(cosines) / len(cosines))
    return found
