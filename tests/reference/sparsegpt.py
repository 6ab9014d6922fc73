"""SparseGPT from its description, in float64: drop a weight, then solve for all columns that are not settled yet.

No inverse Hessian is kept and none is factored: the loss of a weight w_c, the columns before c settled, is w_c^2
over the first entry of the inverse of what is left of H, and the columns that remain move by the least-squares answer
to the error under that same rest (arXiv:2301.00774, equations 1 to 4).
"""

import torch

from tests.reference import grid as slow
from tests.reference.gptq import damped

__all__ = ["damped", "sparsegpt"]


def sparsegpt(w, h, *, share=None, n_of_m=None, over="layer", block=128, dead=(), grid=None):
    """(w (rows, columns) as it becomes, mask): a share of each block of columns is dropped, or n of each m are kept.

    h     (columns, columns) the damped Gram matrix
    grid  (bits, group_size, symmetric, dtype): round in the same sweep; groups take their scale when they are reached,
          from what is kept as far as that is chosen
    """
    w, h = w.double().clone(), h.double()
    rows, columns = w.shape
    mask = torch.ones(rows, columns, dtype=torch.bool)
    inverse_first = [1 / torch.linalg.inv(h[c:, c:])[0, 0].item() for c in range(columns)]
    size = n_of_m[1] if n_of_m else block
    scales = {}

    def loss(r, c):
        return 0.0 if c in dead else w[r, c].item() ** 2 * inverse_first[c]

    def drop(places, count):
        for r, c in sorted(places, key=lambda place: loss(*place))[:count]:
            mask[r, c] = False

    def fit(places):
        bits, _, symmetric, dtype = grid
        scale, zero = slow.fit([w[place].item() if mask[place] else 0.0 for place in places], bits, symmetric, dtype)
        for place in places:
            scales[place] = scale, min(round(zero), 2**bits - 1)

    if grid and not isinstance(grid[1], int):
        for groups in slow.groups(rows, columns, grid[1]):
            for places in groups:
                fit(places)
    for c in range(columns):
        if c % size == 0:
            ahead = range(c, min(c + size, columns))
            each = [[(r, a) for a in ahead] for r in range(rows)]
            if n_of_m or over == "row":
                for places in each:
                    drop(places, len(ahead) - n_of_m[0] if n_of_m else int(len(ahead) * share))
            else:
                drop([place for places in each for place in places], int(rows * len(ahead) * share))
        if grid and isinstance(grid[1], int) and c % grid[1] == 0:
            for r in range(rows):
                fit([(r, a) for a in range(c, c + grid[1])])
        error = torch.zeros(rows, dtype=torch.float64)
        for r in range(rows):
            new = w[r, c].item() if mask[r, c] else 0.0
            if mask[r, c] and grid:
                scale, zero = scales[r, c]
                new = (round(slow.level(w[r, c].item(), scale, zero, grid[0], grid[2])) - zero) * scale
            error[r] = w[r, c] - new
            w[r, c] = new
        rest = list(range(c + 1, columns))
        if rest:
            w[:, rest] += torch.outer(error, torch.linalg.solve(h[rest][:, rest], h[rest, c]))
    return w, mask
