"""LiteASR by the book: principal component analysis of a layer's outputs, as they were, one after the other."""

import torch


def outputs(w, bias, x):
    """(vectors, out) float64: what the layer puts out."""
    y = x.double() @ w.double().T
    return y if bias is None else y + bias.double()


def rank(y, energy, multiple):
    """The smallest multiple whose singular values hold more than a share of the energy; all if none does."""
    s = torch.linalg.svdvals(y)
    s = torch.cat([s, s.new_zeros(y.shape[1] - len(s))])
    total = sum(float(value) ** 2 for value in s)
    held = 0.0
    for count, value in enumerate(s, 1):
        held += float(value) ** 2
        if count % multiple == 0 and held / total > energy:
            return count
    return len(s)


def approximated(w, bias, x, k, centred):
    """(vectors, out) float64: V V^T (y - m) + m, with the k directions of most variance of these very outputs."""
    y = outputs(w, bias, x)
    m = y.mean(0) if centred else torch.zeros(y.shape[1], dtype=torch.float64)
    _, _, vt = torch.linalg.svd(y - m, full_matrices=False)
    v = vt[:k].T
    return torch.stack([v @ (v.T @ (row - m)) + m for row in y])
