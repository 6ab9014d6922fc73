"""What calibration saw at one site: sums over the vectors that its readers multiply."""

from collections.abc import Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

_BLOCKS = 4  # the upper triangle in 4 x 4 blocks takes 10/16 of the products
_ALIKE = 1e-5  # of the largest: sums of attention over 1500 queries differ by less where all get the same
SAMPLES = 1024  # the most vectors that are kept as they are


@dataclass
class InputStats:
    """Sums over calibration vectors x at one site; valid positions only, divided by count at the end.

    gram    (in, in) float32 sum of x x^T, its upper block triangle while summing
    square  (in,) float32 sum of x^2
    absmax  (in,) float32 largest |x|
    absolute  (in,) float32 sum of |x|
    attended  (in, in) float32 sum of u x x^T: u is the attention that x received in its block, mapped to 0..1 in
              its clip, then divided by its mean there, so that every clip counts by its length
    attended_total  (in,) float32 sum of u x, u as above
    attention    sum of u before that division
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
    attended: Tensor | None = None
    attended_total: Tensor | None = None
    attention: float = 0.0
    total: Tensor | None = None
    low: Tensor | None = None
    high: Tensor | None = None
    sample: Tensor | None = None
    _upper: Tensor | None = field(default=None, repr=False)
    _upper_attended: Tensor | None = field(default=None, repr=False)
    _apart: int = field(default=1, repr=False)

    def add(self, x: Tensor, needs: Set[str], received: Tensor | None = None) -> None:
        """Add the vectors `x` (n, in) of one clip to the sums that `needs` names.

        received  (n,) float32, the attention that each got, for "attended"; without it all count alike
        """
        x = x.float()
        if "sample" in needs:
            self._add_sample(x)
        self.count += len(x)
        if "attended" in needs:
            u = torch.ones_like(x[:, 0]) if received is None else _between_0_and_1(received)
            if self._upper_attended is None:
                self._upper_attended = x.new_zeros(x.shape[1], x.shape[1])
            weight = u / u.mean()
            _add_upper_gram(self._upper_attended, x * weight.sqrt()[:, None])
            weighed = weight @ x
            self.attended_total = weighed if self.attended_total is None else self.attended_total + weighed
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
        while len(sample) > SAMPLES:
            sample, self._apart = sample[::2].clone(), 2 * self._apart
        self.sample = sample

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

        def over(sums: Tensor | None, divisor: Tensor) -> Tensor | None:
            return None if sums is None else sums / divisor

        return InputStats(
            self.count,
            gram=over(self.gram, torch.outer(s, s)),
            square=over(self.square, s.square()),
            absmax=over(self.absmax, s),
            absolute=over(self.absolute, s),
            attended=over(self.attended, torch.outer(s, s)),
            attended_total=over(self.attended_total, s),
            attention=self.attention,
            total=over(self.total, s),
            low=over(self.low, s),
            high=over(self.high, s),
            sample=over(self.sample, s),
        )

    def shifted(self, z: Tensor) -> "InputStats":
        """The statistics of x - z, without a new pass. z is (in,).

        Exact, but for the sum of magnitudes: that is the sample's, for as many vectors as there were. `total` must
        have been summed; the largest magnitude needs `low` and `high`, the sum of magnitudes a `sample`.
        """
        total, n = self.total, self.count
        assert total is not None
        low, high, sample = (None if x is None else x - z for x in (self.low, self.high, self.sample))
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
        return InputStats(
            n,
            gram=_shifted_gram(self.gram, total, n, z),
            square=square,
            absmax=absmax,
            absolute=absolute,
            attended=_shifted_gram(self.attended, self.attended_total, n, z),
            attended_total=None if self.attended_total is None else self.attended_total - n * z,
            attention=self.attention,
            total=total - n * z,
            low=low,
            high=high,
            sample=sample,
        )

    @staticmethod
    def of_lookup(columns: int, device: torch.device | None = None) -> "InputStats":
        """The statistics of a table that is only looked up: each entry counts alone, and all alike."""
        ones = torch.ones(columns, device=device)
        eye = torch.diag(ones)
        return InputStats(
            1,
            gram=eye,
            square=ones,
            absmax=ones,
            absolute=ones,
            attended=eye,
            attended_total=ones,
            attention=1.0,
            total=ones,
            low=torch.zeros_like(ones),
            high=ones,
            sample=eye[:SAMPLES],
        )


def _shifted_gram(gram: Tensor | None, total: Tensor | None, n: int, z: Tensor) -> Tensor | None:
    if gram is None:
        return None
    assert total is not None
    return gram - torch.outer(z, total) - torch.outer(total, z) + n * torch.outer(z, z)


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
