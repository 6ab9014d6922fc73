"""What happens to a layer's input at run time, before its weight multiplies it: turned, divided, zeroed, rounded."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.numbers.rounding import Rounding
from sottovoce.numbers.zeroing import Zeroing


@dataclass(frozen=True)
class InputPath:
    """From what a layer is given to what its weight multiplies; nothing unless a field says so.

    turn      x -> x @ matrix for each vector, by an orthogonal matrix; the weight holds the inverse
    divisor   (in,) float32, x -> x / divisor; the weight's columns hold the product
    rounding  the grid of the activations
    zeroing   the small entries that become 0, before any rounding, which leaves a 0 where it is
    """

    turn: "Turn | None" = None
    divisor: Tensor | None = None
    rounding: Rounding | None = None
    zeroing: Zeroing | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) to (..., in)."""
        if self.turn is not None:
            x = self.turn(x)
        if self.divisor is not None:
            x = x / self.divisor
        if self.zeroing is not None:
            x = self.zeroing(x)
        return x if self.rounding is None else self.rounding(x)

    def __bool__(self) -> bool:
        return any(part is not None for part in (self.turn, self.divisor, self.rounding, self.zeroing))

    def to(self, device: str) -> "InputPath":
        """The same with its tensors on a device."""
        return InputPath(
            None if self.turn is None else self.turn.to(device),
            None if self.divisor is None else self.divisor.to(device),
            None if self.rounding is None else self.rounding.to(device),
            self.zeroing,
        )


@dataclass(frozen=True)
class Turn:
    """An orthogonal change of basis in factors: the Kronecker product of its matrices.

    factors  (a, a), (b, b), ... float32 with a * b * ... = in; few and small ones are fast at run time
    """

    factors: tuple[Tensor, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) @ matrix."""
        shape = x.shape
        x = x.reshape(-1, *(len(factor) for factor in self.factors))
        for place, factor in enumerate(self.factors, 1):
            x = torch.movedim(torch.movedim(x, place, -1) @ factor, -1, place)
        return x.reshape(shape)

    @property
    def matrix(self) -> Tensor:
        """(in, in) float32."""
        found = self.factors[0]
        for factor in self.factors[1:]:
            found = torch.kron(found, factor)
        return found

    @property
    def inverse(self) -> "Turn":
        """The turn back."""
        return replace(self, factors=tuple(factor.T.contiguous() for factor in self.factors))

    def to(self, device: str) -> "Turn":
        """The same with its tensors on a device."""
        return replace(self, factors=tuple(factor.to(device) for factor in self.factors))


class InputPaths:
    """The paths of a model's modules by name, each a hook before its module's forward.

    A convolution's vectors lie along dimension 1: (n, channels, positions).
    """

    def __init__(self) -> None:
        self.paths: dict[str, InputPath] = {}
        self._handles: dict[str, Any] = {}
        self._modules: dict[str, nn.Module] = {}

    def set(self, name: str, module: nn.Module, path: InputPath) -> None:
        """Replace the path of a module; one that does nothing is taken away."""
        if name in self._handles:
            self._handles.pop(name).remove()
            del self.paths[name], self._modules[name]
        if path:
            self.paths[name] = path
            self._handles[name] = module.register_forward_pre_hook(_hook(path), with_kwargs=True)
            self._modules[name] = module

    def to(self, device: str) -> None:
        """Move every path to a device, where its module is moved too."""
        for name, path in list(self.paths.items()):
            self.set(name, self._modules[name], path.to(device))


def _hook(path: InputPath) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        first = inputs[0] if inputs else keywords["hidden_states"]
        across = isinstance(module, nn.Conv1d)
        moved = path(first.transpose(1, 2)).transpose(1, 2) if across else path(first)
        if inputs:
            return (moved, *inputs[1:]), keywords
        return inputs, {**keywords, "hidden_states": moved}

    return hook
