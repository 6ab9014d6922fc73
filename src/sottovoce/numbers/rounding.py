"""Activations rounded to integers: by scales fixed before, or found anew for every vector.

Dequantized at once, so that a float product of them is the integer product of a runtime up to the order of sums.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Per = Literal["token", "clip", "tensor", "channel"]


@dataclass(frozen=True)
class Rounding:
    """How an activation (..., in) is rounded before a weight multiplies it.

    bits        2 to 8
    per         "token": a scale for each vector, "clip": one for all vectors of an utterance (the first dimension of x
                tells them apart), both found at run time; "tensor" and "channel": scales found before
    symmetric   levels around zero; false: a zero level of its own, within the range that always holds zero
    scale       () or (in,) float32 where the scales are fixed, None where they are found at run time
    zero_point  the same shape, a whole number; None if symmetric or found at run time
    threshold   a value of at least this magnitude stays as it is and has no say in its vector's scale; None: none does
    """

    bits: int = 8
    per: Per = "token"
    symmetric: bool = True
    scale: Tensor | None = None
    zero_point: Tensor | None = None
    threshold: float | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (..., in) on its grid; gradients pass straight through."""
        if self.threshold is None:
            return x + (self._rounded(x.detach()) - x.detach()) if x.requires_grad else self._rounded(x)
        # an outlier counts as 0 for the scale of its vector, and 0 is on every grid
        outlier = x.detach().abs() >= self.threshold
        rounded = replace(self, threshold=None)(x.masked_fill(outlier, 0.0))
        return torch.where(outlier, x, rounded)

    def _rounded(self, x: Tensor) -> Tensor:
        levels, zero, scale = self.levels(x)
        return ((levels - zero) * scale).to(x.dtype)

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor | float, Tensor]:
        """The level of each value, a whole number in float32, and the zero level and scale that give it its value."""
        x = x.float()
        if self.per in ("token", "clip"):
            over = -1 if self.per == "token" else tuple(range(1, x.ndim))
            low, high = x.amin(over, keepdim=True), x.amax(over, keepdim=True)
            scale, found = found_scale(low, high, self.bits, self.symmetric)
        else:
            assert self.scale is not None
            scale, found = self.scale, self.zero_point
        zero: Tensor | float = 0.0 if found is None else found
        return (x / scale + zero).round().clamp(*level_range(self.bits, self.symmetric)), zero, scale

    def to(self, device: str) -> "Rounding":
        """The same with its tensors on a device."""
        scale = None if self.scale is None else self.scale.to(device)
        zero = None if self.zero_point is None else self.zero_point.to(device)
        return replace(self, scale=scale, zero_point=zero)


def level_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """The lowest and highest level: -7 to 7 at 4 bits, or 0 to 15."""
    return (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


def found_scale(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor | None]:
    """The float32 scale, and the zero point unless symmetric, that let values from `low` to `high` use every level.

    A range that is 0 alone gets the smallest normal scale, under which it stays 0.
    """
    tiny = torch.finfo(torch.float32).tiny
    if symmetric:
        return (torch.maximum(high, -low) / (2 ** (bits - 1) - 1)).clamp(min=tiny), None
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=tiny)
    return scale, (-low / scale).round().clamp(0, 2**bits - 1)
