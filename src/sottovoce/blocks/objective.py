"""What learned weights are judged by: the output of their unit, or that of one layer by its Gram matrix."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from sottovoce.blocks.settings import Learning
from sottovoce.blocks.unit import LiveUnit, Passage
from sottovoce.numbers.fast_products import fast_products

Values = Mapping[str, Tensor]  # a parameter's name, as "encoder.layers.0.fc1.weight" -> its value


class Objective(Protocol):
    """An error of some parameters' values, and which way it falls.

    exact  the error is that of the gradients and costs no more than they do, so that every state can be checked
    """

    exact: bool

    def gradients(self, values: Values) -> dict[str, Tensor]:
        """The gradient of the error, on the next clips in line, for each value, in its shape."""

    def error(self, values: Values) -> float:
        """The error on what is held out."""


class UnitObjective:
    """The squared error of a unit's output, a mean over the positions and channels that count.

    Clips come in an order drawn by the seed, and those held out are not learned from; where there are too
    few clips to hold one out, the error is checked on all.
    """

    exact = False

    def __init__(self, unit: LiveUnit, settings: Learning) -> None:
        self.unit, self.settings = unit, settings
        self.generator = torch.Generator().manual_seed(settings.seed)
        order = torch.randperm(len(unit.passages), generator=self.generator).tolist()
        held = int(settings.held_out * len(order))
        self.held = [unit.passages[i] for i in order[:held] or order]
        self.learned = [unit.passages[i] for i in order[held:]]
        self._line: list[int] = []

    def gradients(self, values: Values) -> dict[str, Tensor]:
        """By a pass forward and back through the unit."""
        for name, value in values.items():
            self.unit.write(name, value)
        batch = self._next()
        numbers = _numbers(batch)
        device = self.unit.model.module.device.type
        for group in self.unit.groups(batch):
            with (
                torch.enable_grad(),
                torch.autocast(device, torch.bfloat16, enabled=self.settings.precision == "bf16"),
            ):
                error = self.unit.error(group) / numbers
            error.backward()
        found = {}
        for name, value in values.items():
            parameter = self.unit.parameter(name)
            assert parameter.grad is not None, f"{name} is no part of {self.unit.unit.name}"
            found[name] = parameter.grad.view_as(value)
            parameter.grad = None
        return found

    @torch.no_grad()
    def error(self, values: Values) -> float:
        """In float32."""
        for name, value in values.items():
            self.unit.write(name, value)
        total = sum(float(self.unit.error(group)) for group in self.unit.groups(self.held))
        return total / _numbers(self.held)

    def _next(self) -> list[Passage]:
        size = min(self.settings.batch, len(self.learned))
        if len(self._line) < size:
            self._line += torch.randperm(len(self.learned), generator=self.generator).tolist()
        chosen, self._line = self._line[:size], self._line[size:]
        return [self.learned[i] for i in chosen]


@contextmanager
def judged_by_unit(unit: LiveUnit, names: Sequence[str], settings: Learning) -> Iterator[UnitObjective]:
    """The objective of a unit whose parameters `names` learn; afterwards they are as they were."""
    before = {name: unit.parameter(name).detach().clone() for name in names}
    with unit.learning(names), fast_products():
        try:
            yield UnitObjective(unit, settings)
        finally:
            for name, value in before.items():
                unit.write(name, value)


class LayerObjective:
    """The squared error of one layer's output over the vectors that its Gram matrix sums up.

    target  (out, in) what the weight should imitate
    gram    (in, in) mean of x x^T
    """

    exact = True

    def __init__(self, name: str, target: Tensor, gram: Tensor) -> None:
        self.name, self.target, self.gram = name, target, gram

    def gradients(self, values: Values) -> dict[str, Tensor]:
        """Twice the difference times the Gram matrix."""
        return {self.name: 2 * (values[self.name] - self.target) @ self.gram / len(self.target)}

    def error(self, values: Values) -> float:
        """Exactly, over all that was seen."""
        difference = values[self.name] - self.target
        return float((difference @ self.gram * difference).sum() / len(self.target))


def _numbers(passages: Sequence[Passage]) -> int:
    return sum(passage.counted * passage.wanted.shape[2] for passage in passages)
