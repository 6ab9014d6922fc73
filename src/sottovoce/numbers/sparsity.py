"""Which weights to keep, given a score for each: masks of bool, True = kept."""

import torch
from torch import Tensor


def keep_fraction(score: Tensor, sparsity: float) -> Tensor:
    """Keep the highest scores of each row; int(columns * sparsity) of a row are dropped.

    score (rows, columns); returns (rows, columns) bool. Give a matrix as one row to let all its
    weights compete. Ties drop the lower column, so that the result is deterministic.
    """
    return _without_lowest(score, int(score.shape[1] * sparsity))


def keep_n_of_m(score: Tensor, n: int, m: int) -> Tensor:
    """Keep the `n` highest of each `m` neighbouring inputs: (rows, columns) bool.

    Raises ValueError if m does not divide the columns or n is not between 1 and m - 1.
    """
    if not 0 < n < m:
        raise ValueError(f"{n}:{m} keeps {n} of {m} weights; n must be 1 to m - 1")
    if score.shape[1] % m:
        raise ValueError(f"{n}:{m} needs a multiple of {m} inputs, found {score.shape[1]}")
    return _without_lowest(score.reshape(-1, m), m - n).reshape(score.shape)


def _without_lowest(score: Tensor, dropped: int) -> Tensor:
    lowest = score.argsort(dim=1, stable=True)[:, :dropped]
    return torch.ones_like(score, dtype=torch.bool).scatter_(1, lowest, False)
