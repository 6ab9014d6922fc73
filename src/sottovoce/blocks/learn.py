"""The optimizer's loop: values to the objective, gradients back to what is learned, the best state kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from sottovoce.blocks.objective import Objective


class Learned(Protocol):
    """Parameters in place of one tensor or several of a unit."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """What the optimizer moves, and what a state is."""

    def values(self) -> dict[str, Tensor]:
        """The tensors by their parameters' names, differentiable in the parameters."""

    def limit(self) -> None:
        """Put parameters that a step has moved too far back into their range."""


def learn(
    objective: Objective,
    learned: Sequence[Learned],
    optimizer: Optimizer,
    iterations: int,
    *,
    checks: int,
    patience: int,
    rate: Callable[[float], float] = lambda part: 1.0,
) -> float:
    """Step until the iterations are over or `patience` checks in a row found no better error; the error of the best.

    The state of least error is restored, the first one included. An exact objective is checked at every step, and
    has as many steps of patience. rate  the share of the learning rate when a
    `part` of the iterations, 0 to 1, is over.
    """
    between = max(1, iterations // checks)
    every = 1 if objective.exact else between
    whole = [group["lr"] for group in optimizer.param_groups]
    best, kept, found_at = judged(objective, learned), state_of(learned), 0
    if best == 0:
        return best
    for step in range(iterations):
        for group, full in zip(optimizer.param_groups, whole, strict=True):
            group["lr"] = full * rate(step / iterations)
        with torch.enable_grad():
            values = _values(learned)
        found = objective.gradients({name: value.detach() for name, value in values.items()})
        optimizer.zero_grad()
        torch.autograd.backward(list(values.values()), [found[name] for name in values])
        optimizer.step()
        for part in learned:
            part.limit()
        if (step + 1) % every and step + 1 < iterations:
            continue
        error = judged(objective, learned)
        if error < best:
            best, kept, found_at = error, state_of(learned), step + 1
        elif step + 1 - found_at >= patience * between:
            break
    restore(learned, kept)
    return best


@torch.no_grad()
def judged(objective: Objective, learned: Sequence[Learned]) -> float:
    """The error of what is learned, as it stands."""
    return objective.error(_values(learned))


def _values(learned: Sequence[Learned]) -> Mapping[str, Tensor]:
    return {name: value for part in learned for name, value in part.values().items()}


def state_of(learned: Sequence[Learned]) -> list[Tensor]:
    """A copy of every parameter."""
    return [tensor.detach().clone() for part in learned for tensor in part.parameters]


@torch.no_grad()
def restore(learned: Sequence[Learned], state: Sequence[Tensor]) -> None:
    """Put a state that `state_of` copied back."""
    for tensor, kept in zip((tensor for part in learned for tensor in part.parameters), state, strict=True):
        tensor.copy_(kept)


class SignDescent(Optimizer):
    """A step of the learning rate against the sign of each gradient."""

    def __init__(self, groups: Sequence[dict[str, object]]) -> None:
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad.sign(), alpha=group["lr"])
