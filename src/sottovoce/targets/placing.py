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
        for name, factor in zip(("left", "right"), layer.weight.factors(), strict=True):
            self.register_buffer(name, factor)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return linear(linear(x, self.right), self.left)

    def product(self) -> Tensor:
        """(out, in)."""
        return self.left @ self.right

    def rows(self, places: Tensor) -> Tensor:
        """(...) int64 to (..., in): those rows of the product."""
        return self.left[places] @ self.right


class WrappedLinear(nn.Module):
    """A linear whose weight is float and stands between block-diagonal matrices: three products, and the bias."""

    inner: Tensor
    core: Tensor
    outer: Tensor
    bias: Tensor | None

    def __init__(self, layer: Layer, factors: nn.Module | None, bias: Tensor | None) -> None:
        super().__init__()
        core, wrappers = layer.weight.masked_base(), layer.weight.wrappers
        assert core is not None
        assert wrappers is not None
        self.path, self.low_rank, self.size = float_path(layer), factors, wrappers.size
        self.register_buffer("inner", wrappers.inner.float().mT.contiguous())
        self.register_buffer("core", core)
        self.register_buffer("outer", wrappers.outer.float().mT.contiguous())
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        x = self.path(x)
        y = self._blocks(linear(self._blocks(x, self.inner), self.core), self.outer)
        if self.bias is not None:
            y = y + self.bias
        return y if self.low_rank is None else y + self.low_rank(x)

    def _blocks(self, x: Tensor, blocks: Tensor) -> Tensor:
        """Each `size` neighbours of (..., width) by their own block."""
        parted = x.unflatten(-1, (len(blocks), self.size)).unsqueeze(-2)  # (..., blocks, 1, size)
        return (parted @ blocks).flatten(-3)


class FactoredLinear(nn.Module):
    """A linear whose factors are its weight: two products, and the bias."""

    bias: Tensor | None

    def __init__(self, layer: Layer, factors: nn.Module, bias: Tensor | None) -> None:
        super().__init__()
        self.path, self.factors = float_path(layer), factors
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        y: Tensor = self.factors(self.path(x))
        return y if self.bias is None else y + self.bias
