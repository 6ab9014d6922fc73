"""Pruning masks by the book, row by row; True = kept."""

import torch


def wanda(w, x, sparsity):
    """The loop of the paper's repository: |W| times the root of the running mean of ||x_j||^2, sort, drop."""
    scaler_row = torch.zeros(w.shape[1], dtype=torch.float64)
    for count, vector in enumerate(x.double()):
        scaler_row = scaler_row * count / (count + 1) + vector**2 / (count + 1)
    metric = w.double().abs() * scaler_row.sqrt()
    mask = torch.ones_like(w, dtype=torch.bool)
    for row, scores in enumerate(metric):
        mask[row, scores.sort(stable=True).indices[: int(w.shape[1] * sparsity)]] = False
    return mask


def n_of_m(metric, n, m):
    """The n largest of each m neighbours of a row."""
    mask = torch.zeros_like(metric, dtype=torch.bool)
    for row in range(len(metric)):
        for start in range(0, metric.shape[1], m):
            places = sorted(range(start, start + m), key=lambda c: metric[row, c].item(), reverse=True)
            mask[row, places[:n]] = True
    return mask


def magnitude(matrices, sparsity):
    """One mask for each matrix: what exceeds the threshold that drops a share of all their entries."""
    sizes = sorted(value for w in matrices for value in w.abs().flatten().tolist())
    dropped = int(len(sizes) * sparsity)
    threshold = sizes[dropped - 1] if dropped else -1.0
    return [w.abs() > threshold for w in matrices]
