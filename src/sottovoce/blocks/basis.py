"""A block: one unit's sites and layers, and the change of basis that its norms and layers can absorb.

An activation's channels are divided and shifted, and the weights and biases that read them follow: the float model
computes the same as before (design invariant 6); what changes is how hard its weights and activations are to round.
"""

from collections.abc import Callable, Container, Mapping, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sottovoce.blocks.unit import LiveUnit
from sottovoce.calibration.statistics import InputStats
from sottovoce.models.structure import Site
from sottovoce.weights.weight import Layer


@dataclass
class Block:
    """What a block-scope method works on: one unit's selected sites and all that they touch.

    stats maps a site's name to its statistics and follows each change of basis; module finds a norm
    or a linear by name. indifferent are the layers to whose outputs a constant may be added unseen. A
    method that fits weights has the selected layers in `names`, and in `reads` the site that each of them reads; one
    that needs "data" has the unit itself in `live`, and in `apart` what reads the layers that the unit's output does
    not show: tables, and a head.
    """

    sites: list[Site]
    layers: Mapping[str, Layer]
    stats: dict[str, InputStats]
    module: Callable[[str], nn.Module]
    indifferent: Set[str] = frozenset()
    names: tuple[str, ...] = ()
    live: LiveUnit | None = None
    apart: Mapping[str, InputStats] = field(default_factory=dict)
    reads: Mapping[str, Site] = field(default_factory=dict)

    def rescale(self, site: Site, s: Tensor) -> None:
        """Divide the activation of `site` by s (in,), positive: in its writer, its readers and its statistics."""
        assert site.writer is not None
        if turned := next((name for name in site.readers if self.layers[name].input.turn), None):
            raise ValueError(
                f"the input of {turned} is rotated at run time, so its channels cannot be rescaled where they are "
                "written; exclude it with where, or put the rotation after"
            )
        for name in site.readers:
            self.layers[name].change_target(self.layers[name].target * s)
        writer = self.module(site.writer)
        rows = site.writer_rows or slice(None)
        if site.writer in self.layers:
            layer = self.layers[site.writer]
            target = layer.target.clone()
            target[rows] /= s[:, None]
            layer.change_target(target)
        else:
            _divide(writer.weight, rows, s)
        if getattr(writer, "bias", None) is not None:
            _divide(writer.bias, rows, s)
        self.stats[site.name] = self.stats[site.name].scaled(s)

    def can_shift(self, site: Site) -> bool:
        """Whether `shift` can move the activation of `site`."""
        return not biases_missing(site, self.layers, self.module, self.indifferent)

    @torch.no_grad()
    def shift(self, site: Site, z: Tensor) -> None:
        """Subtract z (in,) from the activation of `site`: in its norm's bias, its readers' biases, its statistics.

        Its statistics need `total`, `low`, `high` and `sample`. What a reader without a bias would add is a constant,
        which only an indifferent one may lose.
        """
        assert self.can_shift(site)
        assert site.writer is not None
        for name in site.readers:
            self.add_constant(name, self.layers[name].target @ z)
        bias = self.module(site.writer).bias
        assert isinstance(bias, Tensor)
        bias -= z.to(bias.device)
        self.stats[site.name] = self.stats[site.name].shifted(z)

    def takes_constant(self, name: str) -> bool:
        """Whether `add_constant` can move what the layer `name` puts out, or nobody would see it."""
        return name in self.indifferent or getattr(self.module(name), "bias", None) is not None

    @torch.no_grad()
    def add_constant(self, name: str, constant: Tensor) -> None:
        """Add `constant` (out,) to what a layer puts out: to its bias; an indifferent layer may be without one."""
        assert self.takes_constant(name)
        bias = getattr(self.module(name), "bias", None)
        if isinstance(bias, Tensor):
            bias += constant.to(bias.device)


def biases_missing(
    site: Site, layers: Container[str], module: Callable[[str], nn.Module], indifferent: Set[str]
) -> tuple[str, ...]:
    """The norm that writes `site` and the layers that read it, as far as they lack a bias that a shift could go to."""
    assert site.writer is not None
    assert site.writer not in layers
    names = (site.writer, *(name for name in site.readers if name not in indifferent))
    return tuple(name for name in names if getattr(module(name), "bias", None) is None)


@torch.no_grad()
def _divide(parameter: object, rows: slice, s: Tensor) -> None:
    assert isinstance(parameter, Tensor)
    parameter[rows] /= s.to(parameter.device)
