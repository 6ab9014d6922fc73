"""LiteASR: two thin factors for each linear whose outputs vary in few directions.

Kamahori, Kasai, Kojima, Kasikci, "LiteASR: Efficient Automatic Speech Recognition with Low-Rank Approximation", 2025,
arXiv:2502.20583, section 3; github.com/efeslab/LiteASR. Principal component analysis of a layer's outputs y = W x + b
over calibration gives their mean m and directions V, and y is taken as V V^T (y - m) + m: factors V and V^T W, and a
bias. The rank is the smallest multiple of 16 whose directions hold more than a share of the variance; a layer whose
factors would hold no fewer numbers than its weight stays as it is. That is the official code's limit of 0.5 d for
attention and 0.8 d for an MLP of 4 d, and holds for every shape.

The outputs' covariance is W cov(x) W^T, so the Gram matrix and the mean of the inputs are all that has to be seen. A
layer without a bias has no place for the mean: keys that no position turns may lose it, since a constant in all keys
cancels in the softmax, and all others are analysed without centring (m = 0), to the same loss in terms of the variance
around the mean. The official code gives such layers a bias.

Unlike rounding, a projection takes away all that calibration did not show. So the positions of Whisper's window after
the clip, which other methods leave out, count here as they do in the official code: without them their directions are
lost, and decoders that attend to them loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.blocks.basis import Block
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import FactorDtype, dtype_of
from sottovoce.models.base import SpeechModel
from sottovoce.weights.weight import Weight

Energy = Annotated[float, Field(gt=0, lt=1, description="the least share of the outputs' variance that a rank keeps")]


@dataclass(frozen=True)
class Components:
    """The directions of outputs, those of most variance first.

    directions  (out, out) float64, orthonormal columns
    variances   (out,) float64, falling, at least 0
    """

    directions: Tensor
    variances: Tensor

    @staticmethod
    def of(covariance: Tensor) -> "Components":
        """From a covariance (out, out) float64."""
        variances, directions = torch.linalg.eigh(covariance)
        return Components(directions.flip(1), variances.flip(0).clamp(min=0))

    def rank(self, lost: float, multiple: int) -> int:
        """The smallest multiple of `multiple` beyond which less than `lost` of variance lies; else all directions."""
        beyond = self.variances.flip(0).cumsum(0).flip(0)  # of each direction and those after it
        enough = (rank for rank in range(multiple, len(beyond), multiple) if beyond[rank] < lost)
        return next(enough, len(beyond))


def seen_inputs(stats: InputStats) -> tuple[Tensor, Tensor]:
    """(in, in) and (in,): the means of x x^T and x over all positions of the windows."""
    assert stats.gram is not None
    assert stats.total is not None
    assert stats.padding is not None
    count = stats.count + stats.sums["padding_count"]
    return (stats.gram + stats.padding) / count, (stats.total + stats.sums["padding_total"]) / count


def output_covariance(w: Tensor, gram: Tensor, mean: Tensor | None) -> Tensor:
    """(out, out) float64: of the outputs of `w` (out, in), less their mean if that of the inputs, (in,), is given.

    gram  (in, in): the mean of x x^T
    """
    w, inputs = w.double(), gram.double()
    if mean is not None:
        inputs = inputs - torch.outer(mean.double(), mean.double())
    return w @ inputs @ w.T


def projected(w: Tensor, components: Components, rank: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Left (out, rank) and right (rank, in): V and V^T W, whose product is `w` (out, in) in `rank` directions."""
    v = components.directions[:, :rank]
    return v.to(dtype), (v.T @ w.double()).to(dtype)


def saves(rank: int, w: Tensor) -> bool:
    """Whether factors of `rank` hold fewer numbers than `w` (out, in)."""
    return rank * sum(w.shape) < w.numel()


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    other = next((name for name in names if "blocks" not in model.components[name]), None)
    if other is None:
        return None
    return f"liteasr factors the attention and the MLPs of blocks, and {other} is neither; exclude it with where"


@method(
    scope="block",
    owns="low_rank",
    needs=frozenset({"gram", "total", "padding"}),
    refuse_model=_refuse,
    where=("encoder.blocks",),
    writes=lambda options: ("base", "mask", "low_rank"),
    words=lambda name, options: {"low_rank": f"{name} {options['attention']:g} / {options['mlp']:g}"},
)
def liteasr(
    block: Block,
    *,
    attention: Energy = 0.99,
    mlp: Energy = 0.999,
    multiple: Annotated[int, Field(ge=1, description="ranks are multiples of it")] = 16,
    dtype: FactorDtype = "float16",
) -> None:
    """Replace each weight that is worth it by its factors, and move the bias so that the mean output stays."""
    for name in block.names:
        layer, site = block.layers[name], block.reads[name]
        w, (gram, mean) = layer.target, seen_inputs(block.stats[site.name])
        covariance = output_covariance(w, gram, mean)
        variance = float(covariance.trace())
        if variance <= 0:
            continue  # the outputs were never seen to vary, so no direction is better than another
        centred = block.takes_constant(name)
        components = Components.of(covariance if centred else output_covariance(w, gram, None))
        energy = mlp if site.component == "mlp" else attention
        rank = components.rank((1 - energy) * variance, multiple)
        if not saves(rank, w):
            continue
        layer.weight = Weight(None, None, projected(w, components, rank, dtype_of(dtype)))
        if centred:
            # m - V V^T (m - b) in the paper's terms, with the factors as they are stored
            block.add_constant(name, (w - layer.weight.dense()) @ mean)
