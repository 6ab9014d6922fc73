"""Learning the bases of a block's layers: those that its unit's output shows together, the others each alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sottovoce.blocks.basis import Block
from sottovoce.blocks.learn import Learned
from sottovoce.blocks.objective import LayerObjective, Objective, judged_by_unit
from sottovoce.blocks.settings import Learning
from sottovoce.numbers.grid import Grid, Quantized
from sottovoce.numbers.linalg import damped
from sottovoce.weights.weight import Layer

TIED_DAMP = 1.0  # as in gptq: the look-up weighs as much as the head
_ROWS = 4096  # of a table that learn together: more of them leave a CPU's caches


@dataclass(frozen=True)
class Share:
    """What a base is fitted to: a layer's matrix, or some rows of it.

    target  (out, in) what the base should imitate, 0 where masked
    mask    (out, in) bool or None
    rest    (out, in) the low-rank term's product, or None
    """

    name: str
    target: Tensor
    mask: Tensor | None
    rest: Tensor | None

    @staticmethod
    def of(layer: Layer) -> "Share":
        """All of a layer."""
        return Share(layer.name, layer.kept_target(), layer.weight.mask, layer.weight.low_rank_product())

    def rows(self, rows: slice) -> "Share":
        """Some rows of it."""
        mask, rest = (None if part is None else part[rows] for part in (self.mask, self.rest))
        return Share(self.name, self.target[rows], mask, rest)

    def dense(self, base: Tensor) -> dict[str, Tensor]:
        """The layer's weight with that base (out, in), by its parameter's name."""
        kept = base if self.mask is None else base.masked_fill(~self.mask, 0.0)
        return {f"{self.name}.weight": kept if self.rest is None else kept + self.rest}


class LearnedBase(Learned, Protocol):
    """A base that is learned."""

    def quantized(self) -> Quantized:
        """As it is stored now."""


Start = Callable[[Share], LearnedBase]
Fit = Callable[[Objective, Sequence[LearnedBase]], object]


def reconstruct(block: Block, grid: Grid, settings: Learning, start: Start, fit: Fit) -> None:
    """Give each selected layer the base that `fit` makes of what `start` begins with."""
    if shown := shown_layers(block):
        assert block.live is not None, "a method that needs data is shown its unit"
        bases = [start(Share.of(block.layers[name])) for name in shown]
        with judged_by_unit(block.live, [f"{name}.weight" for name in shown], settings) as objective:
            fit(objective, bases)
        for name, base in zip(shown, bases, strict=True):
            store(block.layers[name], [base], grid)
    reconstruct_apart(block, grid, start, fit)


def shown_layers(block: Block) -> list[str]:
    """The selected layers that the unit's output shows."""
    return [name for name in block.names if name not in block.apart]


def reconstruct_apart(block: Block, grid: Grid, start: Start, fit: Fit) -> None:
    """The same for the layers that the unit's output does not show, each by its Gram matrix."""
    for name, stats in block.apart.items():
        layer = block.layers[name]
        assert stats.gram is not None
        gram = stats.gram / max(stats.count, 1)
        gram = damped(gram, TIED_DAMP) if layer.kind == "embedding" else gram
        bases = []
        for rows in _pieces(len(layer.target), grid):
            bases.append(start(Share.of(layer).rows(rows)))
            # dropped weights are in it: the kept ones repair what they can
            fit(LayerObjective(f"{name}.weight", layer.target[rows], gram), bases[-1:])
        store(layer, bases, grid)


def _pieces(rows: int, grid: Grid) -> Iterator[slice]:
    """Rows do not touch each other, unless all have one scale."""
    size = rows if grid.group_size == "tensor" else _ROWS
    for first in range(0, rows, size):
        yield slice(first, first + size)


def store(layer: Layer, bases: Sequence[LearnedBase], grid: Grid) -> None:
    """Put learned bases, which follow each other's rows, into a layer's weight."""
    found = [base.quantized() for base in bases]
    scales = [part.scale for part in found if isinstance(part.scale, Tensor)]
    zeros = [part.zero_point for part in found if isinstance(part.zero_point, Tensor)]
    layer.weight = layer.with_base(
        Quantized(
            torch.cat([part.codes for part in found]),
            torch.cat(scales),
            torch.cat(zeros) if zeros else None,
            grid,
        )
    )
