"""OmniQuant: learn how much of each group's range to clip, from what the unit puts out.

Shao, Chen, Zhang, Xu, Zhao, Li, Zhang, Gao, Qiao, Luo, "OmniQuant: Omnidirectionally Calibrated Quantization for
Large Language Models", 2023, arXiv:2308.13137, equation 2 (learnable weight clipping): both ends of a group's
range shrink by the sigmoid of a number of their own, which begins at 4 (0.982) and is learned by AdamW. Rounding
stays to nearest.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.basis import Block
from sottovoce.methods import method
from sottovoce.numbers.grid import Grid, Quantized
from sottovoce.numbers.straight_through import levels_of, rounded, scale_of_range
from sottovoce.reconstruction.layers import LearnedBase, Share, reconstruct
from sottovoce.reconstruction.learn import learn
from sottovoce.reconstruction.objective import Objective
from sottovoce.reconstruction.settings import Learning

BEGIN = 4.0


@method(scope="block", owns="base", needs=frozenset({"data", "head"}))
def omniquant(
    block: Block,
    *,
    grid: Grid,
    learning: Learning,
    clip_rate: Annotated[float, Field(gt=0, le=1, description="learning rate of the clipping")] = 0.05,
) -> None:
    """Learn the ranges of the selected layers together."""

    def fit(objective: Objective, bases: Sequence[LearnedBase]) -> None:
        moved = [tensor for base in bases for tensor in base.parameters]
        optimizer = torch.optim.AdamW(moved, clip_rate, weight_decay=0)
        learn(objective, bases, optimizer, learning.iterations, checks=learning.checks, patience=learning.patience)

    reconstruct(block, grid, learning, lambda share: Clipped(share, grid), fit)


class Clipped:
    """A base rounded to nearest within a learned part of each group's range."""

    def __init__(self, share: Share, grid: Grid) -> None:
        self.share, self.grid = share, grid
        groups = grid.grouped(share.target)
        self.low, self.high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        self.strength = torch.full_like(torch.stack([self.low, self.high]), BEGIN).requires_grad_()

    @property
    def parameters(self) -> Sequence[Tensor]:
        """(2, rows, groups) of the low and the high end, before the sigmoid."""
        return (self.strength,)

    def values(self) -> dict[str, Tensor]:
        """The layer's weight."""
        scale, zero = self._scale()
        return self.share.dense(rounded(self.share.target, scale, zero, None, self.grid))

    def limit(self) -> None:
        """The sigmoid limits itself."""

    @torch.no_grad()
    def quantized(self) -> Quantized:
        """The levels, and the scales as they are stored."""
        scale, zero = self._scale()
        codes = levels_of(self.share.target, scale, zero, None, self.grid)
        stored = None if zero is None else zero.to(torch.uint8)
        return Quantized(codes, scale.to(self.grid.scale_dtype), stored, self.grid)

    def _scale(self) -> tuple[Tensor, Tensor | None]:
        kept = self.strength.sigmoid()
        return scale_of_range(self.low * kept[0], self.high * kept[1], self.grid)
