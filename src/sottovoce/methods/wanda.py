"""Wanda: drop the weights whose product with their input's norm is smallest.

Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models", 2023,
arXiv:2306.11695, eq. 1. Rows compete within themselves, which the paper found best; nothing is refitted.
"""

from dataclasses import replace

from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import Sparsity
from sottovoce.methods.sparsity import Over, keep, refuse_n_of_m, sparsity_of
from sottovoce.weights.weight import Layer, Weight


def wanda_score(w: Tensor, square: Tensor) -> Tensor:
    """(out, in) importance: |w| times the root of each input's sum of squares, `square` (in,)."""
    return w.abs() * square.sqrt()


@method(scope="layer", owns="mask", needs=frozenset({"square"}), refuse=refuse_n_of_m)
def wanda(layer: Layer, stats: InputStats, *, sparsity: Sparsity = 0.5, over: Over = "row") -> Weight:
    """Drop the lowest scores of each row, or of the layer."""
    assert stats.square is not None
    score = wanda_score(layer.float_base(), stats.square)
    return replace(layer.weight, mask=keep(score, sparsity_of(layer, sparsity), over))
