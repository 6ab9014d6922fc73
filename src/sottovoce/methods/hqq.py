"""HQQ, half-quadratic quantization: fit each group's zero point under a sparse error.

Badri, Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023,
github.com/dropbox/hqq. Minimises |w - dequantized|_p with p < 1, which forgives outliers: in turn
the error is shrunk by the p-norm's proximal operator and the zero point is set to the mean that fits
the rest; the scale keeps the range of the group. The zero point is fractional. No data.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.numbers.grid import Grid, Quantized, fit_scale, to_codes
from sottovoce.weights.weight import Layer, LayerShape, Weight


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if options["symmetric"]:
        return "hqq fits a zero point, which a symmetric grid does not have; set symmetric: false"
    return None


@method(scope="layer", owns="base", refuse=_refuse)
def hqq(
    layer: Layer,
    stats: InputStats,
    *,
    grid: Grid,
    norm: Annotated[float, Field(gt=0, le=1, description="p of the error's norm")] = 0.7,
    beta: Annotated[float, Field(gt=0, description="first weight of the quadratic term")] = 10.0,
    kappa: Annotated[float, Field(ge=1, description="growth of beta at each iteration")] = 1.01,
    iterations: Annotated[
        int, Field(ge=1, le=1000, description="maximum number of iterations; stops earlier when the error rises")
    ] = 20,
    round_zero: Annotated[
        bool, Field(description="round the zero point to a level, for runtimes that need it")
    ] = False,
) -> Weight:
    """Fit the zero points of what the base should imitate; dropped weights have no say."""
    target = layer.kept_target()
    scale, _ = fit_scale(target, grid)
    start = -grid.grouped(target).amin(-1).clamp(max=0) / scale.float()  # a zero rounded here costs up to 5 %
    zero = fit_zero(target, layer.weight.mask, scale.float(), start, grid, norm, beta, kappa, iterations)
    stored = zero.round().clamp(0, grid.levels - 1).to(torch.uint8) if round_zero else zero.to(grid.scale_dtype)
    return layer.with_base(Quantized(to_codes(target, scale, stored, grid), scale, stored, grid))


def fit_zero(
    w: Tensor,
    mask: Tensor | None,
    scale: Tensor,
    zero: Tensor,
    grid: Grid,
    norm: float,
    beta: float,
    kappa: float,
    iterations: int,
) -> Tensor:
    """The (rows, groups) float zero point that the half-quadratic iteration reaches.

    w (out, in), mask (out, in) bool or None, scale and zero (rows, groups). Each iteration must lower
    the mean error over all kept weights, or the zero point before it is returned.
    """
    groups, s = grid.grouped(w), scale[..., None]
    kept = torch.ones_like(groups) if mask is None else grid.grouped(mask.float())
    count = kept.sum(-1).clamp(min=1)
    best, zero = zero, zero.clone()
    best_error = torch.inf
    for _ in range(iterations):
        levels = (groups / s + zero[..., None]).round().clamp(0, grid.levels - 1)
        error = (groups - (levels - zero[..., None]) * s) * kept
        mean_error = float(error.abs().sum() / kept.sum().clamp(min=1))
        if mean_error >= best_error:
            break
        best, best_error = zero, mean_error
        sparse_error = _shrink(error, norm, beta)
        zero = ((levels - (groups - sparse_error) / s) * kept).sum(-1) / count
        beta *= kappa
    return best


def _shrink(x: Tensor, norm: float, beta: float) -> Tensor:
    """The proximal operator of the p-norm to the p: sign(x) max(0, |x| - |x|^(p-1) / beta)."""
    size = x.abs()
    return x.sign() * (size - size.clamp(min=1e-12).pow(norm - 1) / beta).clamp(min=0)
