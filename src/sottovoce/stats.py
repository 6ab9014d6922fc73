"""What calibration saw at one site: sums over the vectors that its readers multiply."""

from collections.abc import Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

_BLOCKS = 4  # the upper triangle in 4 x 4 blocks takes 10/16 of the products
_ALIKE = 1e-5  # of the largest: sums of attention over 1500 queries differ by less where all get the same


@dataclass
class InputStats:
    """Sums over calibration vectors x at one site; valid positions only, divided by count at the end.

    gram    (in, in) float32 sum of x x^T, its upper block triangle while summing
    square  (in,) float32 sum of x^2
    absmax  (in,) float32 largest |x|
    absolute  (in,) float32 sum of |x|
    attended  (in, in) float32 sum of u x x^T: u is the attention that x received in its block, mapped to 0..1 in
              its clip, then divided by its mean there, so that every clip counts by its length
    attention    sum of u before that division
    count   number of vectors
    A convolution's x is its unfolded input: (in * kernel,). What nobody needs stays None.
    """

    count: int = 0
    gram: Tensor | None = None
    square: Tensor | None = None
    absmax: Tensor | None = None
    absolute: Tensor | None = None
    attended: Tensor | None = None
    attention: float = 0.0
    _upper: Tensor | None = field(default=None, repr=False)
    _upper_attended: Tensor | None = field(default=None, repr=False)

    def add(self, x: Tensor, needs: Set[str], received: Tensor | None = None) -> None:
        """Add the vectors `x` (n, in) of one clip to the sums that `needs` names.

        received  (n,) float32, the attention that each got, for "attended"; without it all count alike
        """
        x = x.float()
        self.count += len(x)
        if "attended" in needs:
            u = torch.ones_like(x[:, 0]) if received is None else _between_0_and_1(received)
            if self._upper_attended is None:
                self._upper_attended = x.new_zeros(x.shape[1], x.shape[1])
            _add_upper_gram(self._upper_attended, x * (u / u.mean()).sqrt()[:, None])
            self.attention += float(u.sum())
        if "gram" in needs:
            if self._upper is None:
                self._upper = x.new_zeros(x.shape[1], x.shape[1])
            _add_upper_gram(self._upper, x)
        elif "square" in needs:
            total = x.square().sum(0)
            self.square = total if self.square is None else self.square + total
        if "absmax" in needs:
            largest = x.abs().amax(0)
            self.absmax = largest if self.absmax is None else torch.maximum(self.absmax, largest)
        if "absolute" in needs:
            total = x.abs().sum(0)
            self.absolute = total if self.absolute is None else self.absolute + total

    def finish(self) -> "InputStats":
        """Complete the Gram matrices from their upper triangles; the diagonal of `gram` is the sum of squares."""
        if self._upper_attended is not None:
            self.attended = _whole(self._upper_attended)
            self._upper_attended = None
        if self._upper is not None:
            self.gram = _whole(self._upper)
            self.square = self.gram.diagonal().clone()
            self._upper = None
        return self

    def scaled(self, s: Tensor) -> "InputStats":
        """The statistics of x / s, exactly, without a new pass. s is (in,), positive."""
        return InputStats(
            self.count,
            None if self.gram is None else self.gram / s[:, None] / s[None, :],
            None if self.square is None else self.square / s.square(),
            None if self.absmax is None else self.absmax / s,
            None if self.absolute is None else self.absolute / s,
            None if self.attended is None else self.attended / s[:, None] / s[None, :],
            self.attention,
        )

    @staticmethod
    def of_lookup(columns: int, device: torch.device | None = None) -> "InputStats":
        """The statistics of a table that is only looked up: each entry counts alone, and all alike."""
        ones = torch.ones(columns, device=device)
        return InputStats(1, torch.diag(ones), ones, ones, ones, torch.diag(ones), 1.0)


def _between_0_and_1(received: Tensor) -> Tensor:
    """The smallest to 0, the largest to 1; all to 1 where they differ by no more than rounding."""
    low, high = received.amin(), received.amax()
    if high - low <= _ALIKE * high:
        return torch.ones_like(received)
    return (received - low) / (high - low)


def _whole(upper: Tensor) -> Tensor:
    return torch.triu(upper) + torch.triu(upper, 1).T


def _add_upper_gram(upper: Tensor, x: Tensor) -> None:
    size = -(-x.shape[1] // _BLOCKS)
    for start in range(0, x.shape[1], size):
        rows = slice(start, start + size)
        upper[rows, start:].addmm_(x[:, rows].T, x[:, start:])
