"""What calibration saw at one site: sums over the vectors that its readers multiply."""

from collections.abc import Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

_BLOCKS = 4  # the upper triangle in 4 x 4 blocks takes 10/16 of the products
_SAMPLE = 1024  # the most vectors that are kept as they are


@dataclass
class InputStats:
    """Sums over calibration vectors x at one site; valid positions only, divided by count at the end.

    gram    (in, in) float32 sum of x x^T, its upper block triangle while summing
    square  (in,) float32 sum of x^2
    absmax  (in,) float32 largest |x|
    absolute  (in,) float32 sum of |x|
    total   (in,) float32 sum of x
    low     (in,) float32 smallest x
    high    (in,) float32 largest x
    sample  (n, in) float32 some x as they were, evenly spaced from the first on, at most 1024
    count   number of vectors
    A convolution's x is its unfolded input: (in * kernel,). What nobody needs stays None.
    """

    count: int = 0
    gram: Tensor | None = None
    square: Tensor | None = None
    absmax: Tensor | None = None
    absolute: Tensor | None = None
    total: Tensor | None = None
    low: Tensor | None = None
    high: Tensor | None = None
    sample: Tensor | None = None
    _upper: Tensor | None = field(default=None, repr=False)
    _apart: int = field(default=1, repr=False)

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
        if "total" in needs:
            total = x.sum(0)
            self.total = total if self.total is None else self.total + total
        if "low" in needs:
            low = x.amin(0)
            self.low = low if self.low is None else torch.minimum(self.low, low)
        if "high" in needs:
            high = x.amax(0)
            self.high = high if self.high is None else torch.maximum(self.high, high)

    def _add_sample(self, x: Tensor) -> None:
        """Keep every n-th vector; n doubles whenever there are too many."""
        kept = x[-self.count % self._apart :: self._apart]
        sample = kept.clone() if self.sample is None else torch.cat([self.sample, kept])
        while len(sample) > _SAMPLE:
            sample, self._apart = sample[::2].clone(), 2 * self._apart
        self.sample = sample

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
            None if self.total is None else self.total / s,
            None if self.low is None else self.low / s,
            None if self.high is None else self.high / s,
            None if self.sample is None else self.sample / s,
        )

    def shifted(self, z: Tensor) -> "InputStats":
        """The statistics of x - z, without a new pass. z is (in,).

        Exact, but for the sum of magnitudes: that is the sample's, for as many vectors as there were. `total` must
        have been summed; the largest magnitude needs `low` and `high`, the sum of magnitudes a `sample`.
        """
        total, low, high, sample, n = self.total, self.low, self.high, self.sample, self.count
        assert total is not None
        if low is not None:
            low = low - z
        if high is not None:
            high = high - z
        if sample is not None:
            sample = sample - z
        gram = self.gram
        if gram is not None:
            gram = gram - torch.outer(z, total) - torch.outer(total, z) + n * torch.outer(z, z)
        square, absmax, absolute = self.square, self.absmax, self.absolute
        if square is not None:
            square = (square - 2 * z * total + n * z.square()).clamp(min=0)
        if absmax is not None:
            assert low is not None
            assert high is not None
            absmax = torch.maximum(high, -low)
        if absolute is not None:
            assert sample is not None
            absolute = sample.abs().sum(0) * (n / max(1, len(sample)))
        return InputStats(n, gram, square, absmax, absolute, total - n * z, low, high, sample)

    @staticmethod
    def of_lookup(columns: int, device: torch.device | None = None) -> "InputStats":
        """The statistics of a table that is only looked up: each entry counts alone, and all alike."""
        ones = torch.ones(columns, device=device)
        eye = torch.diag(ones)
        return InputStats(1, eye, ones, ones, ones, ones, torch.zeros_like(ones), ones, eye)


def _add_upper_gram(upper: Tensor, x: Tensor) -> None:
    size = -(-x.shape[1] // _BLOCKS)
    for start in range(0, x.shape[1], size):
        rows = slice(start, start + size)
        upper[rows, start:].addmm_(x[:, rows].T, x[:, start:])
