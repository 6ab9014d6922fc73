"""What a training moves in place of a layer's weight, and how a weight's gradient reaches it.

In every pass a weight is made of its parts, as it will be stored: masked, on its grid or in its table, in its
dtype. The gradient passes straight through the rounding (Bengio, Leonard, Courville, 2013, arXiv:1308.3432), is 0
where a mask drops a weight or a level is at the end of the grid, and so never moves what cannot move. Outliers
stay where they are: what is trained at their places is their values, as floats. Tables, zero points, the scales of
factors, and scales that are rounded themselves stay as they are.
"""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from sottovoce.numbers.coded import Coded
from sottovoce.numbers.grid import Quantized, stored_scale
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.weight import Layer, Weight


class Latent(Protocol):
    """The parameters behind one layer."""

    @property
    def parameters(self) -> dict[str, Parameter]:
        """By name, float32."""

    def weight(self) -> Weight:
        """The layer's weight as it would be stored now."""

    def pull(self, gradient: Tensor) -> None:
        """Add to the parameters' gradients what (out, in) `gradient` of the dense weight means for them."""


class PartsLatent:
    """Every part of a weight but its mask: the base with its outliers, scales if learned, the low-rank factors.

    The parameters are copies: the optimizer writes in place, and the weight is what a scale may not leave far behind.
    """

    def __init__(self, layer: Layer, learned_scales: bool = False) -> None:
        self.start = layer.weight
        base = self.start.base
        self.parameters: dict[str, Parameter] = {}
        if base is not None:
            self.parameters["base"] = _parameter(layer.float_base())
        if isinstance(base, Quantized) and isinstance(base.scale, Tensor) and learned_scales:
            self.parameters["scale"] = _parameter(base.scale.float())
        if self.start.low_rank is not None:
            left, right = self.start.factors()
            self.parameters |= {"left": _parameter(left), "right": _parameter(right)}
        if (wrappers := self.start.wrappers) is not None:
            self.parameters |= {side: _parameter(getattr(wrappers, side).float()) for side in ("outer", "inner")}

    def weight(self) -> Weight:
        """The parts, each rounded as it is stored."""
        weight, factors = self._rescaled(), self.start.low_rank
        if "base" in self.parameters:
            weight = stored_like(weight, self.parameters["base"].detach())
        if factors is not None:
            left, right = (self.parameters[side].detach() for side in ("left", "right"))
            weight = replace(weight, low_rank=_factors_like(factors, left, right))
        if weight.wrappers is not None:
            outer, inner = (self.parameters[side].detach() for side in ("outer", "inner"))
            weight = replace(weight, wrappers=weight.wrappers.like(outer, inner))
        return weight

    def pull(self, gradient: Tensor) -> None:
        """Straight through the rounding; the product rule for factors and for what stands around the base."""
        if "left" in self.parameters:
            self._pull_factors(gradient)
        if "outer" in self.parameters:
            gradient = self._pull_wrappers(gradient)
        if "base" not in self.parameters:
            return
        weight, latent = self._rescaled(), self.parameters["base"]
        if "scale" in self.parameters:
            assert isinstance(weight.base, Quantized)
            on_grid = masked(gradient, weight.mask)
            if weight.outliers is not None:
                on_grid = on_grid.masked_fill(weight.outliers.positions(), 0.0)
            add_gradient(self.parameters["scale"], _scale_gradient(weight.base, latent.detach(), on_grid))
        add_gradient(latent, straight(weight, latent.detach(), gradient))

    def _pull_factors(self, gradient: Tensor) -> None:
        """The product rule; factors on a grid are multiplied as they are stored, and stop at its ends."""
        left, right, factors = self.parameters["left"], self.parameters["right"], self.start.low_rank
        if not isinstance(factors, CodedFactors):
            add_gradient(left, gradient @ right.detach().T)
            add_gradient(right, masked(left.detach().T @ gradient, self.start.factor_mask))
            return
        stored = factors.like(left.detach(), right.detach()).dense()
        passes = factors.inside(left.detach(), right.detach())
        add_gradient(left, passes[0] * (gradient @ stored[1].T))
        add_gradient(right, masked(passes[1] * (stored[0].T @ gradient), self.start.factor_mask))

    def _pull_wrappers(self, gradient: Tensor) -> Tensor:
        """The product rule; returns the gradient of the masked base."""
        now = self.weight()
        core = now.masked_base()
        assert now.wrappers is not None
        assert core is not None
        for side, found in zip(("outer", "inner"), now.wrappers.to_blocks(gradient, core), strict=True):
            add_gradient(self.parameters[side], found)
        return now.wrappers.to_core(gradient)

    def _rescaled(self) -> Weight:
        """The weight that training began with, on the scales of now."""
        base = self.start.base
        if "scale" not in self.parameters or not isinstance(base, Quantized) or not isinstance(base.scale, Tensor):
            return self.start
        # a scale may shrink but not change its sign
        learned = torch.maximum(self.parameters["scale"].detach(), base.scale.float() * 0.1)
        return replace(self.start, base=replace(base, scale=stored_scale(learned, base.scale.dtype)))


class AdapterLatent:
    """Low-rank factors beside a base that stays, kept as the layer's low-rank part.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685. A low-rank part
    that is there already goes on being trained, in front of the new columns.
    """

    def __init__(self, layer: Layer, rank: int, dtype: torch.dtype, generator: torch.Generator) -> None:
        self.start, self.dtype = layer.weight, dtype
        left, right = new_factors(layer, rank, generator)
        if self.start.low_rank is not None:
            earlier = self.start.factors()
            left, right = torch.cat([earlier[0], left], 1), torch.cat([earlier[1], right], 0)
        self.parameters = {"left": Parameter(left), "right": Parameter(right)}

    def weight(self) -> Weight:
        """The base as it was, the factors in their stored dtype."""
        left, right = (self.parameters[side].detach().to(self.dtype) for side in ("left", "right"))
        return replace(self.start, low_rank=(left, right))

    def pull(self, gradient: Tensor) -> None:
        """The product rule."""
        _pull_factors(self.parameters["left"], self.parameters["right"], gradient)


class MergedLatent:
    """Low-rank factors added to the base before its mask and its grid: nothing is left of them but the base."""

    def __init__(self, layer: Layer, rank: int, generator: torch.Generator) -> None:
        if layer.weight.base is None:
            raise ValueError(
                f"{layer.name} has no base that adapters could be merged into: its low-rank factors replaced it; "
                "merge: false would work"
            )
        self.start, self.base = layer.weight, layer.float_base()
        left, right = new_factors(layer, rank, generator)
        self.parameters = {"left": Parameter(left), "right": Parameter(right)}

    def weight(self) -> Weight:
        """The base with the factors in it."""
        return stored_like(self.start, self._sum())

    def pull(self, gradient: Tensor) -> None:
        """Straight through the rounding, then the product rule."""
        if self.start.wrappers is not None:
            gradient = self.start.wrappers.to_core(gradient)
        moving = straight(self.start, self._sum(), gradient)
        _pull_factors(self.parameters["left"], self.parameters["right"], moving)

    def _sum(self) -> Tensor:
        return self.base + self.parameters["left"].detach() @ self.parameters["right"].detach()


def new_factors(layer: Layer, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Left (out, rank) of zeros and right (rank, in) random: their product starts at nothing.

    generator  on the CPU, so that a seed means the same on every device
    """
    rows, columns = layer.target.shape
    right = torch.empty(rank, columns)
    torch.nn.init.kaiming_uniform_(right, a=5**0.5, generator=generator)
    return torch.zeros(rows, rank, device=layer.target.device), right.to(layer.target.device)


def _parameter(value: Tensor) -> Parameter:
    """A copy to be moved, in rows: a GPU's optimizer wants parameters and gradients to lie in memory alike."""
    return Parameter(value.clone(memory_format=torch.contiguous_format))


def masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """`tensor` with every dropped place at exactly 0."""
    return tensor if mask is None else tensor.masked_fill(~mask, 0.0)


def stored_like(weight: Weight, latent: Tensor) -> Weight:
    """`weight` with `latent` (out, in) float32 as its base and outliers, stored as they are."""
    base: Tensor | Coded | None = weight.base
    assert base is not None
    base = masked(latent, weight.mask).to(base.dtype) if isinstance(base, Tensor) else base.like(latent)
    return replace(weight, base=base, outliers=None if weight.outliers is None else weight.outliers.like(latent))


def _factors_like(
    factors: tuple[Tensor, Tensor] | CodedFactors, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor] | CodedFactors:
    """`left` and `right` float32, stored as `factors` are."""
    if isinstance(factors, CodedFactors):
        return factors.like(left, right)
    return left.to(factors[0].dtype), right.to(factors[1].dtype)


def straight(weight: Weight, latent: Tensor, gradient: Tensor) -> Tensor:
    """(out, in): the gradient of the weight that `stored_like` makes of `latent`, passed straight through rounding."""
    gradient = masked(gradient, weight.mask)
    if weight.base is None or isinstance(weight.base, Tensor):
        return gradient
    passes = weight.base.inside(latent)
    return gradient * (passes if weight.outliers is None else passes | weight.outliers.positions())


def _scale_gradient(base: Quantized, latent: Tensor, gradient: Tensor) -> Tensor:
    """(rows, groups): the gradient of LSQ (Esser et al., 2019, arXiv:1902.08153, equation 3), with its scaling.

    Inside the grid a weight's share is what rounding did to its level, outside it is the end level itself.
    """
    levels, grid = base.levels(latent), base.grid
    nearest = levels.round().clamp(grid.lowest, grid.levels - 1)
    inside = (levels > grid.lowest - 0.5) & (levels < grid.levels - 0.5)
    share = torch.where(inside, nearest - levels, nearest - base.zero_levels())
    balance = (share.shape[-1] * (grid.levels - 1) / 2) ** -0.5
    return (grid.grouped(gradient) * share).sum(-1) * balance


def _pull_factors(left: Parameter, right: Parameter, gradient: Tensor) -> None:
    add_gradient(left, gradient @ right.detach().T)
    add_gradient(right, left.detach().T @ gradient)


def add_gradient(parameter: Parameter, gradient: Tensor) -> None:
    """Add to what is there; the first one is copied, in rows as the parameter is."""
    if parameter.grad is None:
        parameter.grad = gradient.clone(memory_format=torch.contiguous_format)
    else:
        parameter.grad = parameter.grad + gradient
