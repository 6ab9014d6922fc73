"""The mean squares of what each layer reads, for all layers in one pass through the model as it stands."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.calibration.collect import input_vectors, pass_all
from sottovoce.calibration.statistics import InputStats
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip


@torch.no_grad()
def mean_squares(model: SpeechModel, clips: Sequence[Clip], names: Collection[str]) -> dict[str, Tensor]:
    """(in,) float32 for each of these layers: the mean of x^2 over the valid positions of all clips.

    1 for each input of a table that is only looked up. Raises ValueError for no clips.
    """
    if not clips:
        raise ValueError("the mean squares of what a layer reads need at least one clip")
    site_of = {
        name: site
        for stack in model.stacks
        for unit in stack.units
        for site in unit.sites
        if site.collected != "out"
        for name in site.readers
    }
    found = {name: InputStats() for name in names if site_of[name].collected != "lookup"}
    valid: dict[str, int] = {}

    def watcher(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            found[name].add(input_vectors(module, inputs[0])[: valid[site_of[name].over]], {"square"})

        return hook

    handles = [model.multiplies_by(name).register_forward_pre_hook(watcher(name)) for name in found]
    try:
        pass_all(model, clips, lambda context: valid.update(context.valid))
    finally:
        for handle in handles:
            handle.remove()
    means = {name: InputStats.of_lookup(model.shapes[name].columns, model.module.device) for name in names} | found
    return {name: stats.finish().sums["square"] / stats.count for name, stats in means.items()}
