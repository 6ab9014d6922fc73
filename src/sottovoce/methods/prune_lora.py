"""SLiM's pruned adapters: the right factor of a low-rank term keeps n of each m neighbouring inputs.

Mozaffari, Yazdanbakhsh, Dehnavi, "SLiM: One-shot Quantization and Sparsity with Low-rank Approximation for LLM Weight
Compression", 2024, arXiv:2410.09615; github.com/Mohammad-Mozaffari/slim, option prune_lora. Of left @ (right @ x) it is
right (r, in) that reads the inputs, and most of the factors' numbers where a layer has more inputs than outputs. Each
direction drops the numbers of the smallest products with their input's norm, as in the official code, and both
factors are then fitted again to what the low-rank term was to imitate, under the zeros.

What differs from the official code on purpose. It takes 1000 steps of Adam towards the product before pruning; here
every sweep solves for the left factor and then for one direction of the right one after the other, exactly, so no
sweep is worse than the one before, and three leave nothing to gain. And the inputs may count by their whole Gram
matrix. quantize_lora after it rounds what is kept; zeros stay zeros.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.low_rank import needs_of_metric, weighing_of
from sottovoce.methods.options import NofM
from sottovoce.methods.sparsity import keep, refuse_n_of_m
from sottovoce.weights.weight import Layer, Weight


@method(
    scope="layer",
    owns="factors",
    needs=needs_of_metric,
    refuse=refuse_n_of_m,
    writes=lambda options: ("factor_mask",),
    words=lambda name, options: {"low_rank": options["sparsity"]},
)
def prune_lora(
    layer: Layer,
    stats: InputStats,
    *,
    sparsity: NofM = "2:4",
    metric: Annotated[
        Literal["gram", "diagonal", "plain"], Field(description="metric of the error: how inputs are weighted")
    ] = "gram",
    sweeps: Annotated[int, Field(ge=1, le=100, description="times that both factors are fitted under the zeros")] = 3,
) -> Weight:
    """Prune and fit the factors that there are; a layer that an earlier step left without any stays as it is."""
    factors = layer.weight.low_rank
    if factors is None:
        return layer.weight
    assert isinstance(factors, tuple)  # the recipe checker has it come before any rounding
    weighing = weighing_of(stats, metric)
    _, right = layer.weight.factors()
    energy = torch.ones_like(right[0]) if weighing is None else weighing.diagonal() if weighing.dim() > 1 else weighing
    mask = keep(right.abs() * energy.sqrt(), sparsity)
    fitted = fit_under_mask(layer.left_for_low_rank(), right, mask, weighing, sweeps)
    dtype = factors[0].dtype
    return replace(layer.weight, low_rank=(fitted[0].to(dtype), fitted[1].to(dtype)), factor_mask=mask)


def fit_under_mask(
    error: Tensor, right: Tensor, mask: Tensor, weighing: Tensor | None, sweeps: int
) -> tuple[Tensor, Tensor]:
    """Left (out, r) and right (r, in) float32 whose product is near `error` (out, in), right 0 where `mask` is False.

    right     (r, in) to begin with
    weighing  the Gram matrix (in, in) that inputs count by, its diagonal (in,), or None: all alike

    Minimises the sum of d G d over the rows d of error - left @ right by block coordinate descent: left, then each row
    of right, of which each has a least-squares solution while the others stand still.
    """
    error, right, metric = error.double(), right.double().masked_fill(~mask, 0.0), _Metric(error, weighing)
    left = _left_for(error, right, metric)
    for sweep in range(sweeps):
        if sweep:
            left = _left_for(error, right, metric)
        rest = error - left @ right
        for k, kept in enumerate(mask):
            energy = left[:, k].square().sum()
            if energy == 0:  # nothing of this direction is left
                continue
            wanted = left[:, k] @ rest / energy + right[k]
            found = metric.nearest(wanted, kept)
            rest += left[:, k : k + 1] * (right[k] - found)
            right[k] = found
    return left.float(), right.float()


class _Metric:
    """How inputs count: by a Gram matrix, float64 and positive definite, or by one number each."""

    def __init__(self, error: Tensor, weighing: Tensor | None) -> None:
        if weighing is None or not weighing.any():  # nothing was seen: all inputs count alike
            weighing = error.new_ones(error.shape[1])
        self.gram = weighing.double().clone()
        energies = self.gram if self.gram.dim() == 1 else self.gram.diagonal()
        energies += 1e-6 * energies + 1e-12 * energies.mean()  # a view: dead inputs count next to nothing

    def times(self, rows: Tensor) -> Tensor:
        """(n, in) @ (in, in)."""
        return rows * self.gram if self.gram.dim() == 1 else rows @ self.gram

    def nearest(self, wanted: Tensor, kept: Tensor) -> Tensor:
        """The row (in,) nearest to `wanted` (in,) of those that are 0 where `kept` (in,) is False."""
        if self.gram.dim() == 1:
            return wanted.masked_fill(~kept, 0.0)
        found = torch.zeros_like(wanted)
        factor = torch.linalg.cholesky(self.gram[kept][:, kept])
        found[kept] = torch.cholesky_solve((self.gram[kept] @ wanted)[:, None], factor)[:, 0]
        return found


def _left_for(error: Tensor, right: Tensor, metric: _Metric) -> Tensor:
    """(out, r): the best left factor for a right one; directions that are 0 or not independent get the smallest."""
    weighed = metric.times(right)  # (r, in)
    inverse = torch.linalg.pinv(weighed @ right.T, hermitian=True)
    return error @ weighed.T @ inverse
