"""TesseraQ: learn soft roundings and harden the most decided ones stage by stage, until all are hard.

Li, Panda, "TesseraQ: Ultra Low-Bit LLM Post-Training Quantization with Block Reconstruction", 2024,
arXiv:2410.19103: progressive adaptive rounding. A weight w is scale * (floor(w / scale) + h(a)) with h a sigmoid
stretched to -0.1..1.1 and cut to 0..1, which begins at w itself. After each of ten stages only a share of a
layer's weights stays soft; the rest go to the nearer end. A factor 2 * sigmoid(v) of each group's scale, for
the way back from integers alone, is learned along. Thresholds are those of LLMC (0.75 ... 0.005); the rates are
higher than its 5e-4, for a tenth of its 2500 steps. A change of basis such as awq before it, as its authors do,
gives it a better start.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.blocks.basis import Block
from sottovoce.blocks.layers import LearnedBase, Share, reconstruct
from sottovoce.blocks.learn import judged, learn, restore, state_of
from sottovoce.blocks.objective import Objective
from sottovoce.blocks.settings import Learning
from sottovoce.methods import method
from sottovoce.numbers.clipping import fit_by_weights
from sottovoce.numbers.grid import Grid, Quantized, fit_scale, stored_scale
from sottovoce.numbers.straight_through import straight

SOFT = (0.75, 0.5, 0.375, 0.25, 0.125, 0.09, 0.06, 0.04, 0.02, 0.005)  # what stays soft in each stage
LOWEST, HIGHEST = -0.1, 1.1


@method(scope="block", owns="base", needs=frozenset({"data", "head"}))
def tesseraq(
    block: Block,
    *,
    grid: Grid,
    learning: Annotated[Learning, Learning(iterations=250, batch=2)],
    learning_rate: Annotated[float, Field(gt=0, le=1, description="of the roundings")] = 0.02,
    scale_rate: Annotated[float, Field(gt=0, le=1, description="of the factors of the scales")] = 0.01,
    clip: Annotated[
        Literal["none", "mse"], Field(description="a narrower range for each group: of least error of the weights")
    ] = "mse",
) -> None:
    """Learn the roundings and scales of the selected layers together."""
    ranged = fit_by_weights if clip == "mse" else fit_scale

    def start(share: Share) -> Soft:
        return Soft(share, grid, *ranged(share.target, grid))

    def fit(objective: Objective, bases: Sequence[LearnedBase]) -> None:
        soft = [base for base in bases if isinstance(base, Soft)]
        harden_by_stages(objective, soft, learning, learning_rate, scale_rate)

    reconstruct(block, grid, learning, start, fit)


def harden_by_stages(
    objective: Objective, bases: Sequence["Soft"], learning: Learning, learning_rate: float, scale_rate: float
) -> None:
    """Learn and harden in turn; of the states that a stage ended with, all rounded, the best is kept."""
    best, kept = _hard_error(objective, bases), state_of(bases)
    for share in SOFT:
        for base in bases:
            base.harden(share)
        groups = [
            {"params": [base.rounding for base in bases], "lr": learning_rate},
            {"params": [base.factor for base in bases], "lr": scale_rate, "weight_decay": 1e-4},
        ]
        steps, checks = max(1, learning.iterations // len(SOFT)), max(1, learning.checks // len(SOFT))
        learn(objective, bases, torch.optim.Adam(groups), steps, checks=checks, patience=learning.patience)
        error = _hard_error(objective, bases)
        if error < best:
            best, kept = error, state_of(bases)
    restore(bases, kept)


def _hard_error(objective: Objective, bases: Sequence["Soft"]) -> float:
    for base in bases:
        base.hard = True
    error = judged(objective, bases)
    for base in bases:
        base.hard = False
    return error


class Soft:
    """A base whose weights are between two levels, and a factor of each group's scale.

    scale, zero_point  (rows, groups) as stored; what is below a weight's soft part stays as they say
    """

    def __init__(self, share: Share, grid: Grid, scale: Tensor, zero_point: Tensor | None) -> None:
        self.share, self.grid, self.zero_point = share, grid, zero_point
        self.scale = scale.float()[..., None]
        self.zero: Tensor | int = grid.middle if zero_point is None else zero_point.float()[..., None]
        place = grid.grouped(share.target) / self.scale
        self.below = place.floor()
        self.rounding = soften(place - self.below).requires_grad_()
        self.factor = torch.zeros_like(self.scale).requires_grad_()
        self.hard = False

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The soft roundings (rows, groups, size), infinite where hard, and the factors before their sigmoid."""
        return self.rounding, self.factor

    def values(self) -> dict[str, Tensor]:
        """The layer's weight; rounded where `hard`."""
        return self.share.dense(self._steps().mul(self._scale()).reshape(self.share.target.shape))

    def limit(self) -> None:
        """Nothing leaves its range."""

    @torch.no_grad()
    def harden(self, share: float) -> None:
        """Leave at most that share of the weights soft: those nearest to the middle between their levels."""
        decided = (upper(self.rounding) - 0.5).abs().flatten()
        edge = decided.kthvalue(max(1, int(share * len(decided)))).values
        hard = (decided > edge).view_as(self.rounding)
        self.rounding.masked_fill_(hard & (self.rounding > 0), torch.inf)
        self.rounding.masked_fill_(hard & (self.rounding <= 0), -torch.inf)

    @torch.no_grad()
    def quantized(self) -> Quantized:
        """The levels that the roundings are nearer to, and the scales with their factors as they are stored."""
        self.hard = True
        codes = (self._steps() + self.zero).to(torch.uint8).reshape(self.share.target.shape)
        return Quantized(codes, self._scale()[..., 0].to(self.grid.scale_dtype), self.zero_point, self.grid)

    def _steps(self) -> Tensor:
        above = (self.rounding > 0).float() if self.hard else upper(self.rounding)
        return (self.below + above + self.zero).clamp(self.grid.lowest, self.grid.levels - 1) - self.zero

    def _scale(self) -> Tensor:
        scale = self.scale * (2 * self.factor.sigmoid())
        return straight(stored_scale(scale.detach(), self.grid.scale_dtype).float(), scale)


def upper(rounding: Tensor) -> Tensor:
    """How much of the upper level a soft rounding takes, 0 to 1."""
    return (rounding.sigmoid() * (HIGHEST - LOWEST) + LOWEST).clamp(0, 1)


def soften(part: Tensor) -> Tensor:
    """The inverse of `upper` for parts from 0 to below 1."""
    return torch.logit((part - LOWEST) / (HIGHEST - LOWEST))
