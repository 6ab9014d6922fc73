"""The one table of statistics: what is summed over the vectors that calibration sees, and how it follows them.

A statistic is one line of STATISTICS; methods ask for it by its name, in `needs`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCKS = 4  # the upper triangle in 4 x 4 blocks takes 10/16 of the products
SAMPLES = 1024  # the most vectors that are kept as they are

Shift = tuple[Mapping[str, Tensor], int, Tensor]  # the statistics of x by name, their count, and z (in,) of x - z


@dataclass(frozen=True)
class Seen:
    """Vectors of one clip: x (n, in) float32, the weight (n,) of each, how many came before.

    padding  (m, in) float32: those of its window that lie after the clip
    """

    x: Tensor
    weight: Tensor
    before: int
    padding: Tensor


@dataclass(frozen=True)
class Statistic:
    """One kind of sum.

    words    what it tells, for docs/methods.md
    add      (the sum so far or None, Seen) -> the sum
    scaled   (the sum, s (in,)) -> that of x / s, exactly
    shifted  (the sum, Shift) -> that of x - z
    lookup   ((in,) ones, (in, in) identity) -> that of a table that is only looked up: each entry counts alone, and
             all alike
    whole    what completes a sum
    """

    words: str
    add: Callable[[Tensor | None, Seen], Tensor]
    scaled: Callable[[Tensor, Tensor], Tensor]
    shifted: Callable[[Tensor, Shift], Tensor]
    lookup: Callable[[Tensor, Tensor], Tensor]
    whole: Callable[[Tensor], Tensor] = lambda total: total


def _merged(of: Callable[[Seen], Tensor], merge: Callable[[Tensor, Tensor], Tensor]) -> Any:
    def add(so_far: Tensor | None, seen: Seen) -> Tensor:
        found = of(seen)
        return found if so_far is None else merge(so_far, found)

    return add


def _over(total: Tensor, s: Tensor) -> Tensor:
    return total / s


def _ones(ones: Tensor, eye: Tensor) -> Tensor:
    return ones


def _eye(ones: Tensor, eye: Tensor) -> Tensor:
    return eye


# --- sums of products -----------------------------------------------------------------------------


def _add_gram(so_far: Tensor | None, x: Tensor) -> Tensor:
    """The upper block triangle of the sum of x x^T, in place."""
    upper = x.new_zeros(x.shape[1], x.shape[1]) if so_far is None else so_far
    size = -(-x.shape[1] // _BLOCKS)
    for start in range(0, x.shape[1], size):
        rows = slice(start, start + size)
        upper[rows, start:].addmm_(x[:, rows].T, x[:, start:])
    return upper


def _whole(upper: Tensor) -> Tensor:
    return torch.triu(upper) + torch.triu(upper, 1).T


def _shifted_gram(total: str, count: str | None = None) -> Callable[[Tensor, Shift], Tensor]:
    """Of a Gram matrix whose vectors' own sum is called `total`, and their number `count` where it is another."""

    def shifted(gram: Tensor, shift: Shift) -> Tensor:
        sums, n, z = shift
        own, number = sums[total], sums[count] if count else n
        return gram - torch.outer(z, own) - torch.outer(own, z) + number * torch.outer(z, z)

    return shifted


def _over_outer(gram: Tensor, s: Tensor) -> Tensor:
    return gram / torch.outer(s, s)


def _shifted_square(square: Tensor, shift: Shift) -> Tensor:
    sums, n, z = shift
    return (square - 2 * z * sums["total"] + n * z.square()).clamp(min=0)


# --- magnitudes -----------------------------------------------------------------------------------


def _shifted_absmax(absmax: Tensor, shift: Shift) -> Tensor:
    sums, _, z = shift
    return torch.maximum(sums["high"] - z, z - sums["low"])


def _shifted_absolute(absolute: Tensor, shift: Shift) -> Tensor:
    """That of the sample, for as many vectors as there were."""
    sums, n, z = shift
    sample = sums["sample"] - z
    return sample.abs().sum(0) * (n / max(1, len(sample)))


def _less_z(value: Tensor, shift: Shift) -> Tensor:
    return value - shift[2]


def _less_nz(total: Tensor, shift: Shift) -> Tensor:
    _, n, z = shift
    return total - n * z


# --- some vectors ---------------------------------------------------------------------------------


def _add_sample(so_far: Tensor | None, seen: Seen) -> Tensor:
    """Every n-th vector from the first on; n doubles whenever there are too many."""
    apart = 1
    while -(-seen.before // apart) > SAMPLES:
        apart *= 2
    kept = seen.x[-seen.before % apart :: apart]
    sample = kept.clone() if so_far is None else torch.cat([so_far, kept])
    while len(sample) > SAMPLES:
        sample = sample[::2].clone()
    return sample


STATISTICS: Mapping[str, Statistic] = {
    "gram": Statistic(
        "how inputs go together",
        lambda so_far, seen: _add_gram(so_far, seen.x),
        _over_outer,
        _shifted_gram("total"),
        _eye,
        _whole,
    ),
    "square": Statistic(
        "the energy of each input",
        _merged(lambda seen: seen.x.square().sum(0), torch.add),
        lambda total, s: total / s.square(),
        _shifted_square,
        _ones,
    ),
    "absmax": Statistic(
        "the largest magnitude of each input",
        _merged(lambda seen: seen.x.abs().amax(0), torch.maximum),
        _over,
        _shifted_absmax,
        _ones,
    ),
    "absolute": Statistic(
        "the mean magnitude of each input",
        _merged(lambda seen: seen.x.abs().sum(0), torch.add),
        _over,
        _shifted_absolute,
        _ones,
    ),
    "attended": Statistic(
        "the attention that each position receives",
        lambda so_far, seen: _add_gram(so_far, seen.x * seen.weight.sqrt()[:, None]),
        _over_outer,
        _shifted_gram("attended_total"),
        _eye,
        _whole,
    ),
    "attended_total": Statistic(
        "the mean of each input, weighed by that attention",
        _merged(lambda seen: seen.weight @ seen.x, torch.add),
        _over,
        _less_nz,
        _ones,
    ),
    "total": Statistic(
        "the mean of each input",
        _merged(lambda seen: seen.x.sum(0), torch.add),
        _over,
        _less_nz,
        _ones,
    ),
    "padding": Statistic(
        "what lies in a window after the clip",
        lambda so_far, seen: _add_gram(so_far, seen.padding),
        _over_outer,
        _shifted_gram("padding_total", "padding_count"),
        lambda ones, eye: torch.zeros_like(eye),
        _whole,
    ),
    "padding_total": Statistic(
        "its mean",
        _merged(lambda seen: seen.padding.sum(0), torch.add),
        _over,
        lambda total, shift: total - shift[0]["padding_count"] * shift[2],
        lambda ones, eye: torch.zeros_like(ones),
    ),
    "padding_count": Statistic(
        "how much of it there is",
        _merged(lambda seen: seen.padding.new_tensor(float(len(seen.padding))), torch.add),
        lambda count, s: count,
        lambda count, shift: count,
        lambda ones, eye: ones.new_zeros(()),
    ),
    "low": Statistic(
        "the smallest value of each input",
        _merged(lambda seen: seen.x.amin(0), torch.minimum),
        _over,
        _less_z,
        lambda ones, eye: torch.zeros_like(ones),
    ),
    "high": Statistic(
        "the largest value of each input",
        _merged(lambda seen: seen.x.amax(0), torch.maximum),
        _over,
        _less_z,
        _ones,
    ),
    "sample": Statistic(
        "some inputs as they are",
        _add_sample,
        _over,
        _less_z,
        lambda ones, eye: eye[:SAMPLES],
    ),
}
