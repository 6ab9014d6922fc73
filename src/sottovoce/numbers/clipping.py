"""Ranges narrower than the largest weight: a few weights clipped, the many rounded more finely.

Each group tries the same shares of its range, from all of it downwards, and keeps the one of least error.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sottovoce.numbers.grid import Grid, Quantized, fit_scale, stored_scale, to_codes

Error = Callable[[Tensor], Tensor]
Fit = Callable[[Tensor, Grid], tuple[Tensor, Tensor | None]]

# GPTQ's and LLMC's search, and AWQ's
MSE_NORM, MSE_SHARES = 2.4, tuple(1 - i / 100 for i in range(80))
OUTPUT_SHARES = tuple(1 - i / 20 for i in range(10))


def fit_clipped(
    w: Tensor, grid: Grid, error: Error, shares: Sequence[float] = MSE_SHARES
) -> tuple[Tensor, Tensor | None]:
    """`fit_scale` of the share of each group's range that leaves the least error.

    w      (out, in) float32
    error  from the difference (out, in) of rounded and true weights to (rows, groups), one number for each scale
    shares of both ends of the range; among equals the first is kept
    """
    scale, zero_point = fit_scale(w, grid)
    whole = scale.float()
    least = error(_difference(w, scale, zero_point, grid))
    for share in shares:
        if share == 1:
            continue
        tried = stored_scale(whole * share, grid.scale_dtype)
        lower = error(_difference(w, tried, zero_point, grid))
        better = lower < least
        least = torch.where(better, lower, least)
        scale = torch.where(better, tried, scale)
    return scale, zero_point


def fit_by_weights(w: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
    """The share of least sum |w - rounded|^2.4, the norm of GPTQ's and LLMC's search."""
    return fit_clipped(w, grid, lambda difference: grid.grouped(difference).abs().pow(MSE_NORM).sum(-1))


def fit_by_output(gram: Tensor) -> Fit:
    """The share of least error of what the layer puts out, each group alone, as AWQ clips.

    gram  (in, in) of the layer's inputs: the sum over them of (difference @ x)^2 is difference @ gram @ difference
    """

    def fit(w: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
        return fit_clipped(w, grid, lambda difference: output_error(difference, gram, grid), OUTPUT_SHARES)

    return fit


def output_error(difference: Tensor, gram: Tensor, grid: Grid) -> Tensor:
    """(rows, groups): the output error of (out, in) `difference`, as if each group were the only one that is off."""
    size = grid.group_size if isinstance(grid.group_size, int) else difference.shape[1]
    parts = difference.reshape(len(difference), -1, size).transpose(0, 1)  # (groups, out, size)
    blocks = torch.stack([gram[i : i + size, i : i + size] for i in range(0, len(gram), size)])
    errors = (parts @ blocks * parts).sum(-1).T  # (out, groups)
    return errors.sum(0, keepdim=True) if grid.group_size == "tensor" else errors


def _difference(w: Tensor, scale: Tensor, zero_point: Tensor | None, grid: Grid) -> Tensor:
    return Quantized(to_codes(w, scale, zero_point, grid), scale, zero_point, grid).dense() - w
