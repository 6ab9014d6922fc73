"""What calibration saw at one site: sums over the vectors that its readers multiply."""

from collections.abc import Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

SAMPLES = 1024
_BLOCKS = 4  # the upper triangle in 4 x 4 blocks takes 10/16 of the products


@dataclass
class InputStats:
    """Sums over calibration vectors x at one site; valid positions only, divided by count at the end.

    gram    (in, in) float32 sum of x x^T, its upper block triangle while summing
    square  (in,) float32 sum of x^2
    absmax  (in,) float32 largest |x|
    absolute  (in,) float32 sum of |x|
    low, high  (in,) float32 smallest and largest x
    sample  (n, in) float32, at most SAMPLES of the vectors, evenly spaced from the first
    count   number of vectors
    A convolution's x is its unfolded input: (in * kernel,). What nobody needs stays None.
    """

    count: int = 0
    gram: Tensor | None = None
    square: Tensor | None = None
    absmax: Tensor | None = None
    absolute: Tensor | None = None
    low: Tensor | None = None
    high: Tensor | None = None
    sample: Tensor | None = None
    _upper: Tensor | None = field(default=None, repr=False)
    _stride: int = field(default=1, repr=False)

    def add(self, x: Tensor, needs: Set[str]) -> None:
        """Add vectors `x` (n, in) to the sums that `needs` names."""
        x = x.float()
        if "sample" in needs:
            self._add_sample(x)
        self.count += len(x)
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
        if "low" in needs:
            low = x.amin(0)
            self.low = low if self.low is None else torch.minimum(self.low, low)
        if "high" in needs:
            high = x.amax(0)
            self.high = high if self.high is None else torch.maximum(self.high, high)

    def _add_sample(self, x: Tensor) -> None:
        """Keep every `_stride`-th vector; when they are too many, every second one of those and of all to come."""
        kept = x[-self.count % self._stride :: self._stride]
        self.sample = kept.clone() if self.sample is None else torch.cat([self.sample, kept])
        while len(self.sample) > SAMPLES:
            self.sample, self._stride = self.sample[::2].clone(), 2 * self._stride

    def finish(self) -> "InputStats":
        """Complete the Gram matrix from its upper triangle; its diagonal is the sum of squares."""
        if self._upper is not None:
            self.gram = torch.triu(self._upper) + torch.triu(self._upper, 1).T
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
            None if self.low is None else self.low / s,
            None if self.high is None else self.high / s,
            None if self.sample is None else self.sample / s,
        )

    @staticmethod
    def of_lookup(columns: int, device: torch.device | None = None) -> "InputStats":
        """The statistics of a table that is only looked up: each entry counts alone, and all alike."""
        ones = torch.ones(columns, device=device)
        eye = torch.diag(ones)
        return InputStats(1, eye, ones, ones, ones, torch.zeros_like(ones), ones, eye[:SAMPLES])


def _add_upper_gram(upper: Tensor, x: Tensor) -> None:
    size = -(-x.shape[1] // _BLOCKS)
    for start in range(0, x.shape[1], size):
        rows = slice(start, start + size)
        upper[rows, start:].addmm_(x[:, rows].T, x[:, start:])
