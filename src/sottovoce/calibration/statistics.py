"""What calibration saw at one site: sums over the vectors that its readers multiply."""

from collections.abc import Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sottovoce.calibration.sums import STATISTICS, Seen

_BESIDE = {"attended": {"attended_total"}, "padding": {"padding_total", "padding_count"}}  # what comes with a sum
_ALIKE = 1e-5  # of the largest: sums of attention over 1500 queries differ by less where all get the same


@dataclass
class InputStats:
    """Sums over calibration vectors x at one site; valid positions only, divided by count at the end.

    Each is an attribute by its name in STATISTICS, None where nobody needed it:
    gram    (in, in) float32 sum of x x^T, its upper block triangle while summing
    square  (in,) float32 sum of x^2
    absmax  (in,) float32 largest |x|
    absolute  (in,) float32 sum of |x|
    attended  (in, in) float32 sum of u x x^T: u is the attention that x received in its block, mapped to 0..1 in
              its clip, then divided by its mean there, so that every clip counts by its length
    attended_total  (in,) float32 sum of u x, u as above
    total   (in,) float32 sum of x
    padding (in, in) float32 sum of x x^T over what lies in a window after the clip, where all else here does not look
    padding_total, padding_count
            (in,) float32 sum of these x, and how many they are
    low     (in,) float32 smallest x
    high    (in,) float32 largest x
    sample  (n, in) float32 some x as they were, evenly spaced from the first on, at most 1024
    and beside them
    count   number of vectors
    attention    sum of u before that division
    A convolution's x is its unfolded input: (in * kernel,).
    """

    count: int = 0
    attention: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Tensor | None:
        """The statistic of that name."""
        if name not in STATISTICS:
            raise AttributeError(name)
        return self.sums.get(name)

    def add(self, x: Tensor, needs: Set[str], received: Tensor | None = None, padding: Tensor | None = None) -> None:
        """Add the vectors `x` (n, in) of one clip to the sums that `needs` names.

        received  (n,) float32, the attention that each got, for "attended"; without it all count alike
        padding   (m, in), what the window holds after the clip, for "padding"; none if left out
        """
        x = x.float()
        weight = torch.ones_like(x[:, 0])
        if "attended" in needs:
            u = weight if received is None else _between_0_and_1(received)
            weight = u / u.mean()
            self.attention += float(u.sum())
        seen = Seen(x, weight, self.count, x[:0] if padding is None else padding.float())
        for name in _summed(needs):
            self.sums[name] = STATISTICS[name].add(self.sums.get(name), seen)
        self.count += len(x)

    def finish(self) -> "InputStats":
        """Complete the sums; the diagonal of `gram` is the sum of squares."""
        self.sums = {name: STATISTICS[name].whole(total) for name, total in self.sums.items()}
        if "gram" in self.sums:
            self.sums["square"] = self.sums["gram"].diagonal().clone()
        return self

    def scaled(self, s: Tensor) -> "InputStats":
        """The statistics of x / s, exactly, without a new pass. s is (in,), positive."""
        sums = {name: STATISTICS[name].scaled(total, s) for name, total in self.sums.items()}
        return InputStats(self.count, self.attention, sums)

    def shifted(self, z: Tensor) -> "InputStats":
        """The statistics of x - z, without a new pass. z is (in,).

        Exact, but for the sum of magnitudes: that is the sample's, for as many vectors as there were. `total` must
        have been summed; the largest magnitude needs `low` and `high`, the sum of magnitudes a `sample`.
        """
        shift = (self.sums, self.count, z)
        sums = {name: STATISTICS[name].shifted(total, shift) for name, total in self.sums.items()}
        return InputStats(self.count, self.attention, sums)

    @staticmethod
    def of_lookup(columns: int, device: torch.device | None = None) -> "InputStats":
        """The statistics of a table that is only looked up: each entry counts alone, and all alike."""
        ones = torch.ones(columns, device=device)
        eye = torch.diag(ones)
        return InputStats(1, 1.0, {name: statistic.lookup(ones, eye) for name, statistic in STATISTICS.items()})


def _summed(needs: Set[str]) -> list[str]:
    """The statistics that these take, in the table's order: a Gram matrix has the squares on its diagonal."""
    wanted = set(needs)
    for name, beside in _BESIDE.items():
        wanted |= beside if name in needs else set()
    return [name for name in STATISTICS if name in wanted and not (name == "square" and "gram" in wanted)]


def _between_0_and_1(received: Tensor) -> Tensor:
    """The smallest to 0, the largest to 1; all to 1 where they differ by no more than rounding."""
    low, high = received.amin(), received.amax()
    if high - low <= _ALIKE * high:
        return torch.ones_like(received)
    return (received - low) / (high - low)
