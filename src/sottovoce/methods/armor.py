"""ARMOR: an n:m core between two block-diagonal matrices, which make up for what it dropped.

Liu, Liu, Wang, Zhao, Yang, "ARMOR: High-Performance Semi-Structured Pruning via Adaptive Matrix Factorization", 2025,
arXiv:2510.05528; github.com/LawrenceRLiu/ARMOR. A weight becomes outer @ (mask * core) @ inner. The loss is NoWag's
(arXiv:2504.14569): the squared error of each weight, after every column and then every row was divided by its norm,
times the energy of its input. It begins as NoWag's pruner, with the identity on both sides and the mask of the largest
of these products, and goes down by blocks of coordinates: both sides, the core's values, its mask. A step of the mask
draws a group of m neighbours in each block of the core, by the size of its gradient, and gives it the best of all ways
to keep n, with the values that are best for it.

Every piece is quadratic in itself, so what the authors' scripts reach by 20,000 small steps (Adam, or gradients under a
bound of the curvature) is solved here exactly: both sides by least squares, the core's values by gradients of the best
length for each block. A step of the mask visits every row of a block in turn, not one row. So no step raises the loss,
and 20 iterations do: moonshine-tiny's blocks take a minute and a half of one core. A dead input counts a millionth of
the mean.

The blocks take (rows + columns) * block_size floats: with 32 and 288 x 288 two ninths of the
weights, and as many as low-rank factors of rank block_size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import FactorDtype, NofM, dtype_of
from sottovoce.methods.sparsity import n_and_m, refuse_n_of_m
from sottovoce.numbers.block_diagonal import block_columns, block_rows, times_left, times_right
from sottovoce.numbers.mask_choice import count_masks
from sottovoce.numbers.sparsity import keep_n_of_m
from sottovoce.weights.weight import Layer, LayerShape, Weight
from sottovoce.weights.wrappers import Wrappers

MOST_WAYS = 100  # each is a small system for every group: 4:8 has 70
_RIDGE = 1e-5  # of the mean curvature, towards what stands: keeps singular systems solvable and never raises the loss
_NOTHING = 1e-12
_DESCENTS = 4


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if shape.kind != "linear":
        return f"armor stands around linear layers, and {shape.name} is of kind {shape.kind}; exclude it with where"
    n, m = n_and_m(options["sparsity"])
    if (ways := count_masks(n, m)) > MOST_WAYS:
        return (
            f"armor tries all ways to keep {n} of {m} weights, and there are {ways:,}; {MOST_WAYS} at most, as of 2:4 "
            "(6) or 4:8 (70), would work"
        )
    if told := refuse_n_of_m(shape, options):
        return told
    size = options["block_size"]
    if size % m:
        return f"block_size {size} of armor cuts groups of {m}; a multiple of {m} would work"
    if shape.rows % size or shape.columns % size:
        return (
            f"block_size {size} of armor does not divide {shape.name} ({shape.rows} x {shape.columns}); "
            f"{_fitting(shape, size, m)}"
        )
    return None


def _fitting(shape: LayerShape, size: int, m: int) -> str:
    """The nearest sizes of blocks that a layer can have."""
    there = [b for b in range(m, shape.columns + 1, m) if shape.rows % b == 0 == shape.columns % b]
    near = sorted(sorted(there, key=lambda b: abs(b - size))[:2])
    return f"{' or '.join(map(str, near))} would work" if near else f"no multiple of {m} does; exclude it with where"


@method(
    scope="layer",
    owns=("mask", "wrappers", "values"),
    writes=lambda options: ("mask", "wrappers"),
    needs=frozenset({"square"}),
    refuse=_refuse,
    where=("*.layers.*",),
    words=lambda name, options: {"sparsity": f"{name} {options['sparsity']} b{options['block_size']}"},
)
def armor(
    layer: Layer,
    stats: InputStats,
    *,
    sparsity: NofM = "2:4",
    block_size: Annotated[
        int, Field(ge=2, description="rows and columns of a block; divides both sides of a layer")
    ] = 32,
    iterations: Annotated[int, Field(ge=1, le=100_000, description="times that both sides, core and mask move")] = 20,
    seed: Annotated[int, Field(ge=0, description="of the draws of groups whose mask is chosen anew")] = 0,
    dtype: FactorDtype = "float16",
) -> Weight:
    """Fit a core and what stands around it to the base."""
    assert isinstance(layer.weight.base, Tensor)  # the recipe checker has it come before any rounding
    assert stats.square is not None
    problem = Problem.of(layer.left_for_base(), stats.square)
    fit = Fit.start(problem, *n_and_m(sparsity), block_size)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(iterations):
        fit.fit_outer()
        fit.fit_inner()
        fit.descend(_DESCENTS)
        fit.choose_groups(generator)
    core, wrappers = fit.stored(dtype_of(dtype))
    base = core.to(layer.weight.base.dtype)
    return replace(layer.weight, base=base, mask=fit.mask, wrappers=wrappers, updated=True)


@dataclass(frozen=True)
class Problem:
    """What is to be imitated, and how much every part of it counts.

    target   (out, in) float32, columns and then rows of norm 1
    columns  (in,) the norms that columns were divided by; rows (out,) those of rows
    energy   (in,) of each input, positive, with a mean near 1
    """

    target: Tensor
    columns: Tensor
    rows: Tensor
    energy: Tensor

    @staticmethod
    def of(w: Tensor, square: Tensor) -> "Problem":
        """For weights (out, in) whose inputs have the sums of squares `square` (in,)."""
        columns = _norms(w, 0)
        rows = _norms(w / columns, 1)
        mean = square.mean()
        energy = torch.ones_like(square) if mean == 0 else square / mean + 1e-6
        return Problem(w / columns / rows[:, None], columns, rows, energy)

    def loss(self, error: Tensor) -> float:
        """NoWag's proxy loss of an error (out, in) of the target."""
        return float((error.double().square() * self.energy.double()).sum())

    def keep(self, n: int, m: int) -> Tensor:
        """(out, in) bool: the mask of NoWag's pruner."""
        return keep_n_of_m(self.target.square() * self.energy, n, m)


def _norms(w: Tensor, dimension: int) -> Tensor:
    """The norms along a dimension, 1 in place of 0."""
    found = w.norm(dim=dimension)
    return found.masked_fill(found == 0, 1.0)


@dataclass
class Fit:
    """outer @ core @ inner as it stands, with the error that it leaves.

    outer  (out / size, size, size); inner (in / size, size, size)
    core   (out, in), 0 where mask is False
    error  (out, in): the target less the product
    ways   (ways, n): the places that each way to keep n of m keeps
    """

    problem: Problem
    outer: Tensor
    inner: Tensor
    core: Tensor
    mask: Tensor
    error: Tensor
    ways: Tensor
    m: int

    @staticmethod
    def start(problem: Problem, n: int, m: int, size: int) -> "Fit":
        """NoWag's pruner, between identities."""
        target, mask = problem.target, problem.keep(n, m)
        one = torch.eye(size, device=target.device)
        outer, inner = (one.repeat(length // size, 1, 1) for length in target.shape)
        core = target.masked_fill(~mask, 0.0)
        ways = torch.tensor(list(combinations(range(m), n)), device=target.device)
        return Fit(problem, outer, inner, core, mask, target - core, ways, m)

    @property
    def size(self) -> int:
        """Rows and columns of a block."""
        return self.outer.shape[1]

    def product(self) -> Tensor:
        """(out, in)."""
        return times_left(self.outer, times_right(self.core, self.inner))

    def loss(self) -> float:
        """The proxy loss as it stands."""
        return self.problem.loss(self.error)

    def fit_outer(self) -> None:
        """The best outer blocks while all else stands."""
        seen = block_rows(times_right(self.core, self.inner), self.size)  # what each block multiplies
        weighed = seen * self.problem.energy
        wanted = torch.bmm(block_rows(self.problem.target, self.size), weighed.mT)
        self.outer = _solved(torch.bmm(seen, weighed.mT), wanted.mT, self.outer.mT).mT.contiguous()
        self.error = self.problem.target - self.product()

    def fit_inner(self) -> None:
        """The best inner blocks while all else stands; an input's energy weighs a whole column and changes nothing."""
        seen = block_columns(times_left(self.outer, self.core), self.size)
        wanted = torch.bmm(seen.mT, block_columns(self.problem.target, self.size))
        self.inner = _solved(torch.bmm(seen.mT, seen), wanted, self.inner)
        self.error = self.problem.target - self.product()

    def descend(self, steps: int) -> None:
        """Move the core's values along their gradient, in each block as far as the loss falls."""
        for _ in range(steps):
            weighed = times_right(self.error * self.problem.energy, self.inner.mT)
            direction = times_left(self.outer.mT, weighed).masked_fill(~self.mask, 0.0)
            moved = times_left(self.outer, times_right(direction, self.inner))
            slope = self._of_blocks(direction.square())
            curvature = self._of_blocks(moved.square() * self.problem.energy)
            length = (slope / curvature.clamp(min=_NOTHING)).masked_fill(slope <= _NOTHING, 0.0)
            length = length.repeat_interleave(self.size, 0).repeat_interleave(self.size, 1)
            self.core = self.core + length * direction
            self.error = self.error - length * moved

    def choose_groups(self, generator: torch.Generator) -> None:
        """Row after row of all blocks at once: one group of each gets the best mask and values."""
        groups = _Groups(self)
        for row in range(self.size):
            slopes = groups.slopes(row)
            groups.choose(row, slopes, _drawn(slopes.abs().sum(-1), generator))
        self.core, self.mask = (
            groups.core.flatten(3).reshape_as(self.core),
            groups.mask.flatten(3).reshape_as(self.mask),
        )
        self.error = self.problem.target - self.product()

    def _of_blocks(self, values: Tensor) -> Tensor:
        """(out / size, in / size): the sums of each block of (out, in)."""
        return values.unflatten(1, (-1, self.size)).unflatten(0, (-1, self.size)).sum((1, 3))

    def stored(self, dtype: torch.dtype) -> tuple[Tensor, Wrappers]:
        """The core (out, in) and what is around it in its dtype, for weights that are not divided by norms.

        The core's values are fitted once more to the blocks as they are rounded. Raises ValueError if `dtype` cannot
        hold a block.
        """
        rows = self.problem.rows.reshape(-1, self.size, 1)
        columns = self.problem.columns.reshape(-1, 1, self.size)
        wrappers = Wrappers((self.outer * rows).to(dtype), (self.inner * columns).to(dtype))
        if not (torch.isfinite(wrappers.outer).all() and torch.isfinite(wrappers.inner).all()):
            raise ValueError(f"what stands around its core is too large for {dtype}; dtype: bfloat16 would work")
        self.outer, self.inner = wrappers.outer.float() / rows, wrappers.inner.float() / columns
        self.error = self.problem.target - self.product()
        self.descend(_DESCENTS)
        return self.core, wrappers


class _Groups:
    """The core as groups of m, for choices of a mask that leave the rest of the core alone.

    I and J count blocks down and across, g the groups across a block. What stands in row r of block (i, j) of the core
    reaches the output as column r of outer block i times what it is multiplied by in inner block j.
    """

    def __init__(self, fit: Fit) -> None:
        size, m = fit.size, fit.m
        self.fit, self.energy = fit, fit.problem.energy.reshape(-1, size)  # (J, size)
        grouped = (-1, size, len(fit.inner), size // m, m)
        self.core, self.mask = fit.core.reshape(grouped).clone(), fit.mask.reshape(grouped).clone()
        self.error = fit.error.reshape(-1, size, len(fit.inner), size).clone()  # (I, size, J, size)
        self.rows = fit.inner.reshape(len(fit.inner), size // m, m, size)  # (J, g, m, size)
        self.curvature = (self.rows * self.energy[:, None, None]) @ self.rows.mT  # (J, g, m, m)
        damped = self.curvature + _ridge(self.curvature, 1e-6)
        at = fit.ways
        own = damped[:, :, at[:, :, None], at[:, None, :]]  # (J, g, ways, n, n)
        self.inverse = torch.linalg.inv(own.double()).float()
        self.down = torch.arange(len(fit.outer), device=at.device)[:, None]  # (I, 1)
        self.across = torch.arange(len(fit.inner), device=at.device)  # (J,)

    def slopes(self, row: int) -> Tensor:
        """(I, J, g, m): half of what the loss falls by for a step of each value of a row."""
        outer = self.fit.outer[:, :, row]  # (I, size)
        reached = torch.einsum("is,isjc->jic", outer, self.error) * self.energy[:, None]
        return torch.bmm(reached, self.fit.inner.mT).transpose(0, 1).unflatten(-1, self.rows.shape[1:3])

    def choose(self, row: int, slopes: Tensor, picked: Tensor) -> None:
        """Give group `picked` (I, J) of a row in each block the mask and the values under which the loss is least."""
        at = (self.down, self.across, picked)
        outer, old = self.fit.outer[:, :, row], self.core[:, row][at]  # (I, size), (I, J, m)
        energy = outer.square().sum(1)[:, None, None]
        curvature = self.curvature[self.across, picked]
        # what a group of zeros would see
        wanted = slopes[at] + energy * (curvature @ old[..., None])[..., 0]
        each = wanted[..., self.fit.ways]  # (I, J, ways, n)
        values = (self.inverse[self.across, picked] @ each[..., None])[..., 0]
        best = (values * each).sum(-1).argmax(-1)  # (I, J)
        places = self.fit.ways[best]  # (I, J, n)
        found = torch.take_along_dim(values, best[..., None, None], 2)[:, :, 0] / energy.clamp(min=_NOTHING)
        new = torch.zeros_like(old).scatter_(2, places, found)
        self.core[self.down, row, self.across, picked] = new
        self.mask[self.down, row, self.across, picked] = torch.zeros_like(old, dtype=torch.bool).scatter_(
            2, places, True
        )
        moved = ((new - old)[:, :, None] @ self.rows[self.across, picked])[:, :, 0]  # (I, J, size)
        self.error -= outer[:, :, None, None] * moved[:, None]


def _ridge(curvature: Tensor, share: float) -> Tensor:
    """(..., n, n): that share of the mean diagonal of each of `curvature`, on a diagonal."""
    mean = curvature.diagonal(dim1=-2, dim2=-1).mean(-1)
    return torch.diag_embed((share * mean + _NOTHING)[..., None].expand(curvature.shape[:-1]))


def _solved(curvature: Tensor, wanted: Tensor, now: Tensor) -> Tensor:
    """x of curvature @ x = wanted, drawn a little towards `now`; all (blocks, size, size)."""
    ridge = _ridge(curvature.double(), _RIDGE)
    return torch.linalg.solve(curvature.double() + ridge, wanted.double() + ridge @ now.double()).float()


def _drawn(weights: Tensor, generator: torch.Generator) -> Tensor:
    """A place along the last dimension, each as likely as its weight; the draw is on the CPU, alike on all devices."""
    reached = weights.cumsum(-1)
    drawn = torch.rand(weights.shape[:-1], generator=generator).to(weights.device)[..., None] * reached[..., -1:]
    return (reached <= drawn).sum(-1).clamp(max=weights.shape[-1] - 1)
