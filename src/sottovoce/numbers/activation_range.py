"""The range that an activation's grid should span, from values that were seen: most of them, or what costs least."""

import torch
from torch import Tensor

from sottovoce.numbers.rounding import Rounding, found_scale

SHARES = tuple(1 - i / 50 for i in range(45))  # of the whole range, down to 12 %
_VALUES = 2**18  # looked at for each share


def percentile_range(x: Tensor, percentile: float, symmetric: bool) -> tuple[Tensor, Tensor]:
    """The ends (c,) between which `percentile` percent of the values `x` (n, c) of each channel lie.

    Of magnitudes on a symmetric grid; otherwise as much is cut off at either end. A channel of which all but the
    rarest values are 0 keeps its whole range: of a range of 0 nothing would be left.
    """
    share = percentile / 100
    if symmetric:
        high = x.abs().quantile(share, dim=0)
        low = -high
    else:
        low, high = x.quantile((1 - share) / 2, dim=0), x.quantile((1 + share) / 2, dim=0)
    empty = (low >= 0) & (high <= 0)
    return torch.where(empty, x.amin(0), low), torch.where(empty, x.amax(0), high)


def least_squares_range(x: Tensor, low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """The share of the range from `low` to `high` (c,) that leaves the least squared error of `x` (n, c), by channel.

    Of equal shares the largest. Of more than some 2^18 values, vectors evenly spaced are looked at.
    """
    x = x[:: max(1, -(-x.numel() // _VALUES))]
    least = torch.full_like(low, torch.inf)
    best = torch.ones_like(low)
    for share in SHARES:
        scale, zero = found_scale(share * low, share * high, bits, symmetric)
        rounded = Rounding(bits, "channel", symmetric, scale, zero)(x)
        error = (rounded - x).square().sum(0)
        best = torch.where(error < least, share, best)
        least = torch.minimum(least, error)
    return best * low, best * high
