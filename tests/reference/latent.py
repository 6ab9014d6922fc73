"""Weights from their latents, group by group, as a graph that autograd walks back: rounding is passed straight."""

import torch

from tests.reference import grid as slow


class Straight(torch.autograd.Function):
    """The nearest level in use; its gradient is 1 within half a level of those levels and 0 beyond."""

    @staticmethod
    def forward(ctx, level, lowest, highest):
        ctx.save_for_backward((level > lowest - 0.5) & (level < highest + 0.5))
        return level.round().clamp(lowest, highest)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None, None


class Scaled(torch.autograd.Function):
    """A number as it is, its gradient times a factor."""

    @staticmethod
    def forward(ctx, value, factor):
        ctx.factor = factor
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


def rounded(latent, scale, zero, bits, group_size, symmetric):
    """(rows, columns) on the grid; `scale` and `zero` (rows, groups), as Esser et al., 2019, train them."""
    lowest, highest = (1 if symmetric else 0), 2**bits - 1
    rows, columns = latent.shape
    values = {}
    for r, groups in enumerate(slow.groups(rows, columns, group_size)):
        for g, places in enumerate(groups):
            s = Scaled.apply(scale[r, g], (len(places) * highest / 2) ** -0.5)
            z = zero[r, g]
            for place in places:
                values[place] = (Straight.apply(latent[place] / s + z, lowest, highest) - z) * s
    return torch.stack([torch.stack([values[r, c] for c in range(columns)]) for r in range(rows)])


def in_table(latent, table):
    """(rows, columns) of a table's nearest entries; straight up to half the outermost gap beyond its ends."""
    low, high = (3 * table[0] - table[1]) / 2, (3 * table[-1] - table[-2]) / 2
    rows = []
    for row in latent:
        found = [min(table, key=lambda entry, value=value: abs(entry - value)) for value in row.tolist()]
        rows.append([
            value - value.detach() + entry if low <= value <= high else entry + 0 * value
            for value, entry in zip(row, found, strict=True)
        ])  # fmt: skip
    return torch.stack([torch.stack(row) for row in rows])


def with_outliers(base, latent, places, values):
    """A base whose values at `places` are those of the latent, as they are stored: rounded, passed straight."""
    return torch.where(places, latent + (values - latent).detach(), base)


def dense(base, mask, left, right):
    """mask * base + left @ right, of what there is."""
    terms = []
    if base is not None:
        terms.append(base if mask is None else base * mask)
    if left is not None:
        terms.append(left @ right)
    return sum(terms)
