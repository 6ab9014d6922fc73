"""A unit that learns: what it is given clip by clip, what it should make of it, and how it runs with other weights."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Parameter

from sottovoce.calibration.collect import State, run
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Context, Unit
from sottovoce.training.attention import training_attention
from sottovoce.training.forward import CPU_POSITIONS


@dataclass(frozen=True)
class Passage:
    """One clip at one unit.

    given    what goes in as the compressed model makes it, with its context
    wanted   (1, positions, d) float32: what the float model has there when the unit is passed
    counted  the positions, from the first, that are no padding
    """

    given: State
    wanted: Tensor
    counted: int

    @property
    def positions(self) -> int:
        """The longest of what it holds."""
        memory = self.given.context.memory
        return max(self.wanted.shape[1], 0 if memory is None else memory.shape[1])

    @property
    def shape(self) -> tuple[object, ...]:
        """Clips of one shape share masks and rotary tables, and can be run together."""
        memory = self.given.context.memory
        return self.given.hidden.shape, self.wanted.shape, None if memory is None else memory.shape


@dataclass(frozen=True)
class LiveUnit:
    """One unit of a model, in which weights can be written and gradients read."""

    model: SpeechModel
    unit: Unit
    passages: Sequence[Passage]

    def parameter(self, name: str) -> Parameter:
        """A parameter as the layers' names go, such as "encoder.layers.0.fc1.weight"."""
        found = self.model.module.get_parameter(self.model.full_name(name))
        assert isinstance(found, Parameter)
        return found

    @torch.no_grad()
    def write(self, name: str, value: Tensor) -> None:
        """Put a value, of any shape with as many numbers, into a parameter."""
        parameter = self.parameter(name)
        parameter.copy_(value.view_as(parameter))

    def groups(self, passages: Sequence[Passage]) -> Iterator[list[Passage]]:
        """Passages that run together: of one shape, and on a CPU as many as its caches hold."""
        most = CPU_POSITIONS if self.model.module.device.type == "cpu" else CPU_POSITIONS * 16
        by_shape: dict[tuple[object, ...], list[Passage]] = {}
        for passage in passages:
            by_shape.setdefault(passage.shape, []).append(passage)
        for alike in by_shape.values():
            size = max(1, most // alike[0].positions)
            yield from (alike[i : i + size] for i in range(0, len(alike), size))

    def error(self, group: Sequence[Passage]) -> Tensor:
        """The sum of squared differences from what is wanted, over the positions that count."""
        made = run(self.model, self.unit, _joined(group))
        total = made.new_zeros((), dtype=torch.float32)
        for row, passage in zip(made, group, strict=True):
            wanted = passage.wanted[0, : passage.counted].to(row.device)
            total = total + (row[: passage.counted].float() - wanted).square().sum()
        return total

    @contextmanager
    def learning(self, names: Sequence[str]) -> Iterator[None]:
        """Within, gradients reach the parameters of those names and no others, and attention is fast to learn by."""
        before = {parameter: parameter.requires_grad for parameter in self.model.module.parameters()}
        chosen = [self.parameter(name) for name in names]
        with ExitStack() as stack:
            stack.enter_context(training_attention(self.model.module))
            for parameter in before:
                parameter.requires_grad_(False)
            for parameter in chosen:
                parameter.requires_grad_(True)
            try:
                yield
            finally:
                for parameter, learned in before.items():
                    parameter.grad = None
                    parameter.requires_grad_(learned)


@contextmanager
def unrounded(model: SpeechModel) -> Iterator[None]:
    """Within, no layer rounds or zeroes what it is given: the float model, turned and divided as its weights ask."""
    rounding = {name: path for name, path in model.paths.paths.items() if path.rounding or path.zeroing}
    for name, path in rounding.items():
        model.paths.set(name, model.find(name), replace(path, rounding=None, zeroing=None))
    try:
        yield
    finally:
        for name, path in rounding.items():
            model.paths.set(name, model.find(name), path)


def _joined(group: Sequence[Passage]) -> State:
    states = [passage.given for passage in group]
    first, memory = states[0].context, None
    if first.memory is not None:
        memory = torch.cat([state.context.memory for state in states if state.context.memory is not None])
    return State(torch.cat([state.hidden for state in states]), Context(first.valid, dict(first.block), memory))
