"""Weights as entries of one table for a layer, wherever its weights are, and the k-means that finds the table.

In one dimension the clusters are intervals, so sums over an interval are differences of running sums over
the sorted values and an iteration of Lloyd's costs as much as there are clusters, whatever the layer's size.
Lloyd's only goes downhill; where it begins decides where it ends. It begins at the best clusters of a
histogram, found exactly by dynamic programming (Wang, Song, "Ckmeans.1d.dp", The R Journal 3/2, 2011).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

BINS = 512  # of the histogram; as many distinct values or fewer are clustered exactly
_ITERATIONS = 1000


@dataclass(frozen=True)
class Palettized:
    """A weight whose every entry is one of a few values.

    codes  (out, in) uint8, places in the table
    table  (2^bits,) in its stored dtype, rising
    """

    codes: Tensor
    table: Tensor

    @property
    def bits(self) -> int:
        """Of a code."""
        return (len(self.table) - 1).bit_length()

    def dense(self) -> Tensor:
        """(out, in) float32, from the stored tensors only."""
        return self.table.float()[self.codes.long()]

    def like(self, w: Tensor) -> "Palettized":
        """The weight from the same table that is nearest to `w` (out, in) float32."""
        return replace(self, codes=nearest_entry(w, self.table))

    def inside(self, w: Tensor) -> Tensor:
        """(out, in) bool: where a weight of `w` lies in the table's range, or half the outermost gap beyond it."""
        table = self.table.float()
        low, high = table[0] - (table[1] - table[0]) / 2, table[-1] + (table[-1] - table[-2]) / 2
        return (w >= low) & (w <= high)

    def take_rows(self, rows: Tensor) -> "Palettized":
        """The weights of those rows, by the same table."""
        return replace(self, codes=self.codes[rows])

    def to(self, device: str) -> "Palettized":
        """The same with its tensors on a device."""
        return Palettized(self.codes.to(device), self.table.to(device))


def nearest_entry(w: Tensor, table: Tensor) -> Tensor:
    """(out, in) uint8: the place in a rising `table` of the entry nearest to each weight; the lower one of two."""
    entries = table.to(w.dtype)
    return torch.bucketize(w, (entries[1:] + entries[:-1]) / 2).to(torch.uint8)


def k_means(values: Tensor, clusters: int, importance: Tensor | None = None) -> Tensor:
    """(clusters,) float64, rising: the centres of least squared distance to `values` (n,), n = 0 included.

    importance (n,), not negative, weighs the squared distances. Fewer distinct values than clusters are centres
    themselves, the largest as often as is left. The same on every run.
    """
    values, order = values.sort()
    values = values.double()
    weight = torch.ones_like(values) if importance is None else _positive(importance.double()[order])
    points, counts = values.unique_consecutive(return_counts=True)
    if len(points) <= clusters:
        last = points[-1:] if len(points) else values.new_zeros(1)
        return torch.cat([points, last.expand(clusters - len(points))])
    sums = _running(weight), _running(weight * values)
    edges = counts.cumsum(0) if len(points) <= BINS else _edges(values)
    bounds = torch.cat([edges.new_zeros(1), edges])
    mass, moment = (total[bounds].diff() for total in sums)
    return _lloyd(values, sums, _best_split(mass, moment / mass, clusters, bounds))


def _positive(importance: Tensor) -> Tensor:
    """What weighs nothing counts next to nothing, so that every cluster has a centre; all alike if nothing weighs."""
    mean = importance.mean()
    return importance + 1e-9 * mean if mean > 0 else torch.ones_like(importance)


def _running(terms: Tensor) -> Tensor:
    """(n + 1,): the sum of the first i terms at place i."""
    return torch.cat([terms.new_zeros(1), terms.cumsum(0)])


def _edges(values: Tensor) -> Tensor:
    """The places in sorted `values` where bins end: half of them of equal width, half of equally many values.

    Either half alone is coarse where the other is fine, in the middle of a heavy-tailed distribution or in its tails.
    """
    low, high = float(values[0]), float(values[-1])
    ends = torch.linspace(low, high, BINS // 2 + 1, dtype=values.dtype, device=values.device)[1:]
    ends[-1] = high
    shares = torch.linspace(0, len(values), BINS // 2 + 1, dtype=values.dtype, device=values.device)[1:]
    return torch.cat([torch.searchsorted(values, ends, right=True), shares.round().long()]).unique()


def _best_split(mass: Tensor, place: Tensor, clusters: int, bounds: Tensor) -> Tensor:
    """(clusters + 1,): the `bounds` of the best intervals of points (n,) of some mass at rising places, exactly."""
    n = len(mass)
    clusters = min(clusters, n)
    place = place - (mass * place).sum() / mass.sum()  # differences of squares lose less around 0
    zeroth, first, second = (_running(mass * place**power) for power in range(3))

    def between(sums: Tensor) -> Tensor:
        return sums[None, 1:] - sums[:-1, None]  # (from, to) inclusive

    total = between(zeroth)
    cost = (between(second) - between(first).square() / total.where(total > 0, 1)).clamp(min=0)
    cost.masked_fill_(~torch.ones_like(cost, dtype=torch.bool).triu(), torch.inf)
    best, begins = cost[0], []
    for _ in range(clusters - 1):
        # one cluster more: the last begins at `begin`, the others end before it
        best, begin = (best.roll(1).index_fill(0, best.new_zeros(1, dtype=torch.long), torch.inf)[:, None] + cost).min(
            0
        )
        begins.append(begin)
    found = [n]
    for begin in reversed(begins):
        found.append(int(begin[found[-1] - 1]))
    return bounds[torch.tensor([0, *reversed(found)], device=bounds.device)]


def _lloyd(values: Tensor, sums: tuple[Tensor, Tensor], bounds: Tensor) -> Tensor:
    """The centres that Lloyd's iteration reaches from the intervals of sorted `values` between `bounds`."""
    for _ in range(_ITERATIONS):
        mass, moment = (total[bounds].diff() for total in sums)
        middle = values[((bounds[1:] + bounds[:-1]) // 2).clamp(max=len(values) - 1)]
        centres = torch.where(mass > 0, moment / mass, middle)  # an interval may lose all its values
        inner = torch.searchsorted(values, (centres[1:] + centres[:-1]) / 2, right=True)
        moved = torch.cat([bounds[:1], inner, bounds[-1:]])
        if torch.equal(moved, bounds):
            break
        bounds = moved
    return centres
