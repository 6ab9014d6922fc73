"""GPTQ from its definition, in float64: settle a column, then solve for all that is not settled yet.

No inverse Hessian is kept and none is factored: after a column is rounded, the columns that remain
move by the least-squares answer to its error under the damped Gram matrix.
"""

import torch

from tests.reference import grid as slow


def damped(gram, damp):
    """The Gram matrix with a share of its mean diagonal added; a dead input counts one."""
    h = gram.double().clone()
    mean = h.diagonal().mean().item() or 1.0
    for i in range(len(h)):
        if h[i, i] == 0:
            h[i, i] = 1.0
    return h + damp * mean * torch.eye(len(h), dtype=torch.float64)


def gptq(w, h, bits, group_size, symmetric, dtype, *, mask=None, act_order=False, static_groups=False):
    """(codes, scale, zero, places): the rounded matrix and where each value fell before it was rounded.

    w (rows, columns), h (columns, columns) the damped Gram matrix; groups without static_groups take
    their scale when their first column is reached.
    """
    w, h = w.double().clone(), h.double()
    rows, columns = w.shape
    kept = torch.ones(rows, columns, dtype=torch.bool) if mask is None else mask
    table = slow.groups(rows, columns, group_size)
    scale = torch.zeros(len(table), len(table[0]), dtype=torch.float64)
    zero, codes, places = torch.zeros_like(scale), torch.zeros_like(w), torch.zeros_like(w)
    group_of = {place: (r, g) for r, groups in enumerate(table) for g, group in enumerate(groups) for place in group}

    def fit(r, g):
        values = [w[place].item() if kept[place] else 0.0 for place in table[r][g]]
        scale[r, g], z = slow.fit(values, bits, symmetric, dtype)
        zero[r, g] = min(round(z), 2**bits - 1)

    dynamic = isinstance(group_size, int) and not static_groups
    for r, groups in enumerate(table):
        for g in range(len(groups)):
            if not dynamic:
                fit(r, g)

    order = sorted(range(columns), key=lambda c: -h[c, c].item()) if act_order else list(range(columns))
    for i, c in enumerate(order):
        if dynamic and c % group_size == 0:
            for r in range(rows):
                fit(r, c // group_size)
        error = torch.zeros(rows, dtype=torch.float64)
        for r in range(rows):
            s, z = (part[group_of[r, c]].item() for part in (scale, zero))
            places[r, c] = slow.level(w[r, c].item(), s, z, bits, symmetric)
            codes[r, c] = round(places[r, c].item())
            error[r] = w[r, c] - ((codes[r, c] - z) * s if kept[r, c] else 0.0)
        rest = order[i + 1 :]
        if rest:
            # minimise (d, -error) H (d, -error)^T over the moves d of the rest
            w[:, rest] += torch.outer(error, torch.linalg.solve(h[rest][:, rest], h[rest, c]))
    return codes, scale, zero, places
