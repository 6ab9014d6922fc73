"""Putting a runtime's own modules in the place of transformers', before a graph is made of a model."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear

from sottovoce.models.base import SpeechModel
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Layer


def place(model: SpeechModel, name: str, module: nn.Module) -> None:
    """Put a module where the layer `name` is; what happens to the layer's input is then the module's own affair."""
    model.paths.set(name, model.find(name), InputPath())
    holder, _, own = model.full_name(name).rpartition(".")
    setattr(model.module.get_submodule(holder), own, module)


def float_path(layer: Layer) -> InputPath:
    """The layer's path without its rounding, which is the runtime's own."""
    return replace(layer.input, rounding=None)


def bias_of(module: Any) -> Tensor | None:
    """The bias of one of transformers' modules."""
    return None if module.bias is None else module.bias.detach()


class LowRank(nn.Module):
    """left @ (right @ x), in float."""

    left: Tensor
    right: Tensor

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        assert layer.weight.low_rank is not None
        for name, factor in zip(("left", "right"), layer.weight.low_rank, strict=True):
            self.register_buffer(name, factor.float())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return linear(linear(x, self.right), self.left)
