"""The proximal step of a group lasso that spares its largest groups.

The group lasso (Yuan and Lin, "Model selection and estimation in regression with grouped variables", JRSS B 68, 2006)
adds the norms of groups of weights to a loss; its proximal step shortens each group's norm by a threshold and leaves
exact zeros. The trimmed lasso (Bertsimas, Copenhaver, Mazumder, "The Trimmed Lasso: Sparsity and Robustness", 2017,
arXiv:1708.04527, problem 2) counts all but the k largest: those are not shortened at all, and how many stay is a number
of the penalty and not what a strength happens to give.
"""

import math

import torch
from torch import Tensor

from sottovoce.numbers.leaving_out import best_kept


def shortened(norms: Tensor, stay: int, threshold: Tensor | float) -> Tensor:
    """(n,) what groups of `norms` (n,) are multiplied by: 1 for the `stay` largest, else max(0, 1 - threshold / norm).

    Of equal norms the first stay; a group of zeros is multiplied by 0.
    """
    factors = (1 - threshold / norms).clamp(min=0.0)
    factors = factors.masked_fill(norms <= threshold, 0.0)
    return factors.index_fill(0, best_kept(norms, stay), 1.0)


def even_threshold(norms: Tensor, stay: int, steps: int) -> Tensor:
    """(): the threshold at which all but the `stay` largest of `norms` (n,) are 0 behind `steps` such steps."""
    leaving = torch.ones(len(norms), dtype=torch.bool, device=norms.device)
    leaving = leaving.index_fill(0, best_kept(norms, stay), False)
    return norms[leaving].max() / steps


def steps_left(step: int, steps: int, share: float) -> int:
    """How many of the first `share` of `steps` are left at `step`, from 0, itself included; 1 behind them."""
    return max(1, math.ceil(share * steps) - step)
