"""OmniQuant: learn how much of each group's range to clip and, with `let`, how to even out what norms write.

Shao, Chen, Zhang, Xu, Zhao, Li, Zhang, Gao, Qiao, Luo, "OmniQuant: Omnidirectionally Calibrated Quantization for
Large Language Models", 2023, arXiv:2308.13137. Learnable weight clipping (equation 2): both ends of a group's
range shrink by the sigmoid of a number of their own, which begins at 4 (0.982). Learnable equivalent transformation
(equation 3): each channel that a norm writes is shifted and divided, its readers' columns and biases make up for
it; begun as SmoothQuant begins, and of use before integer activations alone. Both follow, by AdamW, what the unit
puts out; rounding stays to nearest. The divisor is learned by its logarithm, which keeps it positive; the official
code also transforms between v_proj and out_proj, and queries against keys, which is left out here.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.blocks.basis import Block
from sottovoce.blocks.layers import (
    LearnedBase,
    Share,
    reconstruct,
    reconstruct_apart,
    shown_layers,
    store,
)
from sottovoce.blocks.learn import Learned, learn
from sottovoce.blocks.objective import Objective, judged_by_unit
from sottovoce.blocks.settings import Learning
from sottovoce.methods import method
from sottovoce.methods.osplus import Shift, refuse_shift
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Site
from sottovoce.numbers.grid import Grid, Quantized
from sottovoce.numbers.straight_through import levels_of, rounded, scale_of_range

BEGIN = 4.0


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({"data", "head"} | ({"total", "low", "high"} if options["let"] else set()))


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if not options["let"]:
        return None
    for site in (site for stack in model.stacks for unit in stack.units for site in unit.sites):
        inside = [name for name in site.readers if name in names]
        if _after_norm(site, model.shapes) and 0 < len(inside) < len(site.readers):
            outside = [name for name in site.readers if name not in names]
            return (
                f"omniquant: {', '.join(inside)} and {', '.join(outside)} read one activation, so with let: true all "
                "or none must match where"
            )
    return refuse_shift("omniquant", model, names, options)


@method(
    scope="block",
    owns="base",
    needs=_needs,
    refuse_model=_refuse,
    moves_basis=lambda options: bool(options["let"]),
)
def omniquant(
    block: Block,
    *,
    grid: Grid,
    learning: Learning,
    clip_rate: Annotated[float, Field(gt=0, le=1, description="learning rate of the clipping")] = 0.05,
    let: Annotated[
        bool, Field(description="learn to shift and divide what norms write, for integer activations")
    ] = False,
    let_rate: Annotated[float, Field(gt=0, le=1, description="learning rate of shifts and divisors")] = 5e-3,
    alpha: Annotated[float, Field(ge=0, le=1, description="of the divisors at the start, as smoothquant's")] = 0.5,
    shift: Shift = "where_possible",
) -> None:
    """Learn the ranges of the selected layers together, after a change of basis that is learned with ranges too."""

    def descend(objective: Objective, learned: Sequence[Learned], groups: Sequence[dict[str, Any]]) -> None:
        optimizer = torch.optim.AdamW(groups, weight_decay=0)
        learn(objective, learned, optimizer, learning.iterations, checks=learning.checks, patience=learning.patience)

    def fit(objective: Objective, bases: Sequence[LearnedBase]) -> None:
        descend(
            objective, bases, [{"params": [tensor for base in bases for tensor in base.parameters], "lr": clip_rate}]
        )

    def start(share: Share) -> Clipped:
        return Clipped(share, grid)

    shown = set(shown_layers(block))
    sites = [site for site in block.sites if let and _after_norm(site, block.layers) and set(site.readers) <= shown]
    if not sites:
        reconstruct(block, grid, learning, start, fit)
        return
    assert block.live is not None
    found = Transformed(block, sites, grid, alpha, shift)
    with judged_by_unit(block.live, list(found.values()), learning) as objective:
        groups = [{"params": found.strengths, "lr": clip_rate}, {"params": found.shapes, "lr": let_rate}]
        descend(objective, [found], groups)
    found.settle()
    reconstruct_apart(block, grid, start, fit)


def _after_norm(site: Site, layers: Container[str]) -> bool:
    return site.writer is not None and site.writer not in layers


class Clipped:
    """A base rounded to nearest within a learned part of each group's range."""

    def __init__(self, share: Share, grid: Grid, strength: Tensor | None = None) -> None:
        self.share, self.grid = share, grid
        self.ends = _ends(share.target, grid)
        if strength is None:
            strength = torch.full_like(torch.stack(self.ends), BEGIN)
        self.strength = strength.detach().requires_grad_()

    @property
    def parameters(self) -> Sequence[Tensor]:
        """(2, rows, groups) of the low and the high end, before the sigmoid."""
        return (self.strength,)

    def values(self) -> dict[str, Tensor]:
        """The layer's weight."""
        scale, zero = self._scale(self.ends)
        return self.share.dense(rounded(self.share.target, scale, zero, None, self.grid))

    def of(self, w: Tensor) -> Tensor:
        """(out, in): other weights within as much of their own ranges, differentiable in them too."""
        scale, zero = self._scale(_ends(w, self.grid))
        return rounded(w, scale, zero, None, self.grid)

    def limit(self) -> None:
        """The sigmoid limits itself."""

    @torch.no_grad()
    def quantized(self) -> Quantized:
        """The levels, and the scales as they are stored."""
        scale, zero = self._scale(self.ends)
        codes = levels_of(self.share.target, scale, zero, None, self.grid)
        stored = None if zero is None else zero.to(torch.uint8)
        return Quantized(codes, scale.to(self.grid.scale_dtype), stored, self.grid)

    def _scale(self, ends: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
        kept = self.strength.sigmoid()
        return scale_of_range(ends[0] * kept[0], ends[1] * kept[1], self.grid)


def _ends(w: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    groups = grid.grouped(w)
    return groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)


class Channels:
    """How the channels that a norm writes are shifted and divided.

    site      whose activation it is
    logarithm (in,) of the divisors; it begins as SmoothQuant's, for the range that the shift leaves
    middle    (in,) the shift, begun at the middle of each channel's range; None where it has no bias to go to
    """

    def __init__(self, block: Block, site: Site, alpha: float, shifted: bool) -> None:
        self.block, self.site = block, site
        stats = block.stats[site.name]
        assert stats.low is not None
        assert stats.high is not None
        middle = (stats.low + stats.high) / 2 if shifted else torch.zeros_like(stats.low)
        reach = torch.maximum(stats.high - middle, middle - stats.low)
        largest = torch.stack([block.layers[name].target.abs().amax(0) for name in site.readers]).amax(0)
        s = reach.clamp(min=1e-5).pow(alpha) / largest.clamp(min=1e-5).pow(1 - alpha)
        self.logarithm = torch.where((reach > 0) & (largest > 0), s.clamp(min=1e-5), 1.0).log().requires_grad_()
        self.middle = middle.requires_grad_() if shifted else None
        self.norm = block.module(site.writer or "")
        self.biases = {
            name: bias.detach().clone()
            for name in (site.writer or "", *site.readers)
            if isinstance(bias := getattr(block.module(name), "bias", None), Tensor)
        }
        gain = self.norm.weight
        assert isinstance(gain, Tensor)
        self.gain = gain.detach().clone()

    @property
    def parameters(self) -> list[Tensor]:
        """What is learned."""
        return [self.logarithm] if self.middle is None else [self.logarithm, self.middle]

    def values(self) -> dict[str, Tensor]:
        """The norm's gain and bias and its readers' biases, by their parameters' names."""
        writer, s = self.site.writer or "", self.logarithm.exp()
        found = {f"{writer}.weight": self.gain / s}
        if writer in self.biases:
            bias = self.biases[writer]
            found[f"{writer}.bias"] = (bias if self.middle is None else bias - self.middle) / s
        for name in self.site.readers if self.middle is not None else ():
            if name in self.biases:
                assert self.middle is not None
                found[f"{name}.bias"] = self.biases[name] + self.block.layers[name].target @ self.middle
        return found

    def apply(self) -> None:
        """Move the block's basis."""
        if self.middle is not None:
            self.block.shift(self.site, self.middle.detach())
        self.block.rescale(self.site, self.logarithm.detach().exp())


class Transformed:
    """A unit whose norms' activations are evened out and whose layers are clipped, learned together."""

    def __init__(self, block: Block, sites: Sequence[Site], grid: Grid, alpha: float, shift: Shift) -> None:
        self.block, self.grid = block, grid
        self.channels = [Channels(block, site, alpha, shift != "never" and block.can_shift(site)) for site in sites]
        self.clipped = [Clipped(Share.of(block.layers[name]), grid) for name in shown_layers(block)]
        self.divisor = {name: channels for channels in self.channels for name in channels.site.readers}

    @property
    def strengths(self) -> list[Tensor]:
        """Of the clipping."""
        return [clipped.strength for clipped in self.clipped]

    @property
    def shapes(self) -> list[Tensor]:
        """Of the transformation."""
        return [tensor for channels in self.channels for tensor in channels.parameters]

    @property
    def parameters(self) -> Sequence[Tensor]:
        """All that is learned."""
        return self.strengths + self.shapes

    def values(self) -> dict[str, Tensor]:
        """The layers' weights, the norms, and the biases that changed."""
        found: dict[str, Tensor] = {}
        for channels in self.channels:
            found |= channels.values()
        for clipped in self.clipped:
            if clipped.share.name in self.divisor:
                s = self.divisor[clipped.share.name].logarithm.exp()
                found |= clipped.share.dense(clipped.of(clipped.share.target * s))
            else:
                found |= clipped.values()
        return found

    def limit(self) -> None:
        """Sigmoids and exponentials limit themselves."""

    @torch.no_grad()
    def settle(self) -> None:
        """Move the basis, then store the layers as they are clipped in it."""
        for channels in self.channels:
            channels.apply()
        for clipped in self.clipped:
            layer = self.block.layers[clipped.share.name]
            store(layer, [Clipped(Share.of(layer), self.grid, clipped.strength)], self.grid)
