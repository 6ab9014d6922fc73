"""Small activations set to zero: a weight's column that would be multiplied by one of them need not be read."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Zeroing:
    """Entries of an activation that become 0: those whose magnitude is at most `threshold`.

    threshold  a float32 number, 0 or more
    share      how many of the entries that calibration saw these are
    """

    threshold: float
    share: float

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (..., in) with its small entries at 0; their gradients are 0 too."""
        return torch.where(x.abs() > self.threshold, x, torch.zeros((), dtype=x.dtype, device=x.device))


def fit_zeroing(x: Tensor, share: float) -> Zeroing:
    """The least threshold that sets at least `share` of the entries of `x` to 0, and the share that it does set."""
    magnitudes = x.float().abs().flatten()
    count = max(1, round(share * len(magnitudes)))
    threshold = float(magnitudes.kthvalue(count).values)
    return Zeroing(threshold, float((magnitudes <= threshold).double().mean()))
