"""What a training moves in place of a layer's weight, and how a weight's gradient reaches it.

In every pass a weight is made of its parts, as it will be stored: masked, on its grid, in its dtype. The
gradient passes straight through the rounding (Bengio, Leonard, Courville, 2013, arXiv:1308.3432), is 0
where a mask drops a weight or a level is at the end of the grid, and so never moves what cannot move.
"""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from sottovoce.numbers.grid import Quantized, stored_scale, to_codes
from sottovoce.weight import Layer, Weight


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
    """Every part of a weight but its mask: the base, its scales if they are learned, the low-rank factors.

    The parameters are copies: the optimizer writes in place, and the weight is what a scale may not leave far behind.
    """

    def __init__(self, layer: Layer, learned_scales: bool = False) -> None:
        self.start = layer.weight
        base = self.start.base
        self.parameters: dict[str, Parameter] = {}
        if base is not None:
            self.parameters["base"] = Parameter(layer.float_base().clone())
        if isinstance(base, Quantized) and learned_scales:
            self.parameters["scale"] = Parameter(base.scale.float().clone())
        if self.start.low_rank is not None:
            left, right = self.start.low_rank
            self.parameters |= {"left": Parameter(left.float().clone()), "right": Parameter(right.float().clone())}

    def weight(self) -> Weight:
        """The parts, each rounded as it is stored."""
        base, factors = self.start.base, self.start.low_rank
        if base is not None:
            base = rounded_like(base, self.parameters["base"].detach(), self.start.mask, self._scale())
        if factors is not None:
            left, right = (self.parameters[side].detach().to(factors[0].dtype) for side in ("left", "right"))
            factors = (left, right)
        return Weight(base, self.start.mask, factors)

    def pull(self, gradient: Tensor) -> None:
        """Straight through the rounding; the product rule for factors."""
        if "left" in self.parameters:
            _pull_factors(self.parameters["left"], self.parameters["right"], gradient)
        if "base" not in self.parameters:
            return
        latent = self.parameters["base"]
        moving = masked(gradient, self.start.mask)
        if isinstance(self.start.base, Quantized):
            if "scale" in self.parameters:
                _add(self.parameters["scale"], _scale_gradient(self.start.base, latent.detach(), self._scale(), moving))
            moving = moving * inside_grid(self.start.base, latent.detach(), self._scale())
        _add(latent, moving)

    def _scale(self) -> Tensor | None:
        if "scale" not in self.parameters or not isinstance(self.start.base, Quantized):
            return None
        learned = self.parameters["scale"].detach()
        # a scale may shrink but not change its sign
        floor = self.start.base.scale.float() * 0.1
        return stored_scale(torch.maximum(learned, floor), self.start.base.scale.dtype)


class AdapterLatent:
    """Low-rank factors beside a base that stays, kept as the layer's low-rank part.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685. A low-rank part
    that is there already goes on being trained, in front of the new columns.
    """

    def __init__(self, layer: Layer, rank: int, dtype: torch.dtype, generator: torch.Generator) -> None:
        self.start, self.dtype = layer.weight, dtype
        left, right = new_factors(layer, rank, generator)
        if self.start.low_rank is not None:
            left = torch.cat([self.start.low_rank[0].float(), left], 1)
            right = torch.cat([self.start.low_rank[1].float(), right], 0)
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
        assert self.start.base is not None
        return replace(self.start, base=rounded_like(self.start.base, self._sum(), self.start.mask, None))

    def pull(self, gradient: Tensor) -> None:
        """Straight through the rounding, then the product rule."""
        moving = masked(gradient, self.start.mask)
        if isinstance(self.start.base, Quantized):
            moving = moving * inside_grid(self.start.base, self._sum(), None)
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


def masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """`tensor` with every dropped place at exactly 0."""
    return tensor if mask is None else tensor.masked_fill(~mask, 0.0)


def rounded_like(
    base: Tensor | Quantized, latent: Tensor, mask: Tensor | None, scale: Tensor | None
) -> Tensor | Quantized:
    """`latent` (out, in) float32 stored as `base` is: in its dtype, or on its grid with `scale` in place of its own."""
    if not isinstance(base, Quantized):
        return masked(latent, mask).to(base.dtype)
    scale = base.scale if scale is None else scale
    return replace(base, codes=to_codes(latent, scale, base.zero_point, base.grid), scale=scale)


def inside_grid(base: Quantized, latent: Tensor, scale: Tensor | None) -> Tensor:
    """(out, in) bool: where a latent weight lies within half a level of the grid's ends."""
    levels = _levels(base, latent, scale)
    grid = base.grid
    return ((levels > grid.lowest - 0.5) & (levels < grid.levels - 0.5)).reshape(latent.shape)


def _levels(base: Quantized, latent: Tensor, scale: Tensor | None) -> Tensor:
    """(rows, groups, size): the levels of latent weights before they are rounded."""
    step = (base.scale if scale is None else scale).float()[..., None]
    return base.grid.grouped(latent) / step + _zero(base)


def _zero(base: Quantized) -> Tensor | int:
    return base.grid.middle if base.zero_point is None else base.zero_point.float()[..., None]


def _scale_gradient(base: Quantized, latent: Tensor, scale: Tensor | None, gradient: Tensor) -> Tensor:
    """(rows, groups): the gradient of LSQ (Esser et al., 2019, arXiv:1902.08153, equation 3), with its scaling.

    Inside the grid a weight's share is what rounding did to its level, outside it is the end level itself.
    """
    levels, grid = _levels(base, latent, scale), base.grid
    nearest = levels.round().clamp(grid.lowest, grid.levels - 1)
    inside = (levels > grid.lowest - 0.5) & (levels < grid.levels - 0.5)
    share = torch.where(inside, nearest - levels, nearest - _zero(base))
    balance = (share.shape[-1] * (grid.levels - 1) / 2) ** -0.5
    return (grid.grouped(gradient) * share).sum(-1) * balance


def _pull_factors(left: Parameter, right: Parameter, gradient: Tensor) -> None:
    _add(left, gradient @ right.detach().T)
    _add(right, left.detach().T @ gradient)


def _add(parameter: Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
