"""What ARMOR minimises, and each of its steps, written out with whole matrices in numpy."""

from itertools import combinations

import numpy as np
from scipy.linalg import block_diag


def normalized(w):
    """NoWag's target: columns of norm 1, then rows; with the norms of columns and rows."""
    columns = np.sqrt((w**2).sum(0))
    rows = np.sqrt(((w / columns) ** 2).sum(1))
    return w / columns / rows[:, None], columns, rows


def loss(w, approximation, square):
    """The proxy loss of an approximation of w, whose inputs have sums of squares `square`, over their mean."""
    _, columns, rows = normalized(w)
    error = (w - approximation) / columns / rows[:, None]
    return float((error**2 * square / square.mean()).sum())


def pruned(w, square, n, m):
    """NoWag's pruner: of each m neighbours of a row those n stay that cost most."""
    target, _, _ = normalized(w)
    kept = np.zeros_like(w)
    for row in range(w.shape[0]):
        for first in range(0, w.shape[1], m):
            cost = target[row, first : first + m] ** 2 * square[first : first + m]
            for place in np.argsort(-cost, kind="stable")[:n]:
                kept[row, first + place] = w[row, first + place]
    return kept


def product(outer, core, inner):
    """Of block-diagonal matrices given as their blocks, with what stands between."""
    return block_diag(*outer) @ core @ block_diag(*inner)


def best_group(target, energy, outer, core, inner, row, first, n, m):
    """The least loss with n of the m numbers of the core from (row, first) on, by trying all; and these numbers."""
    root, left, right = np.sqrt(energy), block_diag(*outer), block_diag(*inner)
    without = core.copy()
    without[row, first : first + m] = 0
    rest = ((target - left @ without @ right) * root).ravel()
    found = (np.inf, None)
    for places in combinations(range(m), n):
        reached = np.stack([np.outer(left[:, row], right[first + place] * root).ravel() for place in places], 1)
        values, *_ = np.linalg.lstsq(reached, rest, rcond=None)
        cost = float(((rest - reached @ values) ** 2).sum())
        if cost < found[0]:
            numbers = np.zeros(m)
            numbers[list(places)] = values
            found = (cost, numbers)
    return found
