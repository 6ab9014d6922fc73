"""How loud each layer is: the median magnitude of what it puts out, which myQASR ranks layers by."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.calibration.collect import pass_all
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip


@torch.no_grad()
def output_medians(model: SpeechModel, clips: Sequence[Clip], names: Collection[str]) -> dict[str, float]:
    """The median |output| of each of these layers over its valid positions, the mean over clips.

    Fish, Michieli, Ozay, "A Model for Every User and Budget: Label-Free and Personalized Mixed-Precision
    Quantization", 2023, arXiv:2307.12659, section 3.1. A table that is only looked up puts out its own entries.
    Raises ValueError for no clips.
    """
    if not clips:
        raise ValueError("the median of what a layer puts out needs at least one clip")
    found: dict[str, list[float]] = defaultdict(list)
    valid: dict[str, int] = {}
    over = {
        name: site.over
        for stack in model.stacks
        for unit in stack.units
        for site in unit.sites
        for name in site.readers
    }

    def watcher(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            vectors = output[0].T if isinstance(module, nn.Conv1d) else output[0]
            found[name].append(float(vectors[: valid[over[name]]].abs().median()))

        return hook

    shown = [name for name in model.shapes if name in names and model.shapes[name].multiplies]
    handles = [model.multiplies_by(name).register_forward_hook(watcher(name)) for name in shown]
    try:
        pass_all(model, clips, lambda context: valid.update(context.valid))
    finally:
        for handle in handles:
            handle.remove()
    looked_up = {name: float(model.find(name).weight.abs().median()) for name in set(names) - set(shown)}  # type: ignore[operator]
    return {name: sum(found[name]) / len(found[name]) if name in found else looked_up[name] for name in names}
