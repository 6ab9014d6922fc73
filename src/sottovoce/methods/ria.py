"""RIA: drop the weights that matter least to their row and their column, weighed by the norm of their input.

Zhang, Bai, Lin, Zhao, Hou, Cannistraci, "Plug-and-Play: An Efficient Post-training Pruning Method for Large Language
Models", ICLR 2024, github.com/biomedical-cybernetics/Relative-importance-and-activation-pruning. A weight counts as a
share of its column's and of its row's sum of magnitudes, so that no channel is dropped whole; the norm of its input
counts by its root (a = 0.5). Nothing is refitted. The paper's permutation of channels before n:m is not here: the
order of a residual stream's channels belongs to all layers that read it.
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import Sparsity
from sottovoce.methods.sparsity import Over, keep, refuse_n_of_m, sparsity_of
from sottovoce.weights.weight import Layer, Weight

_LEAST = 1e-30  # of a sum that divides: a row or column of zeros has importance 0


def ria_score(w: Tensor, square: Tensor, power: float) -> Tensor:
    """(out, in) importance: |w| / its column's sum + |w| / its row's sum, times the root of `square` (in,) ** power."""
    size = w.abs()
    relative = size / size.sum(0).clamp(min=_LEAST) + size / size.sum(1, keepdim=True).clamp(min=_LEAST)
    return relative * square.sqrt() ** power


@method(scope="layer", owns="mask", needs=frozenset({"square"}), refuse=refuse_n_of_m)
def ria(
    layer: Layer,
    stats: InputStats,
    *,
    sparsity: Sparsity = 0.5,
    over: Over = "layer",
    power: Annotated[float, Field(ge=0, le=1, description="power of each input's norm (a); 0: no data counts")] = 0.5,
) -> Weight:
    """Drop the lowest scores of the layer, as the authors' code does, or of each row."""
    assert stats.square is not None
    score = ria_score(layer.float_base(), stats.square / stats.count, power)
    return replace(layer.weight, mask=keep(score, sparsity_of(layer, sparsity), over))
