"""What a runtime rounds, rounded in torch: how far its answers may be from its artifact's is then known before it runs.

A runtime that multiplies integers rounds what each layer reads to 8 bits, by a rule of its own. The same rule on the
same model gives other rounding errors of the same size: on whisper-tiny.en at 8 bits, keys and values of
cross-attention are 5 to 12 % off in ONNX Runtime, and as far off here within a few percent of that.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from sottovoce.models.base import SpeechModel
from sottovoce.numbers.rounding import Rounding
from sottovoce.targets.placing import float_path
from sottovoce.weights.weight import Layer

Rule = Callable[[Tensor], Tensor]  # (..., in) to (..., in)


@dataclass(frozen=True)
class InBlocks:
    """8 bits around zero, with a scale for each block of so many neighbours of a vector, found at run time."""

    size: int

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) to (..., in)."""
        columns = x.shape[-1]
        blocks = pad(x, (0, -columns % self.size)).unflatten(-1, (-1, self.size))
        return Rounding(8, "token")(blocks).flatten(-2)[..., :columns]


@contextmanager
def rounded_inputs(model: SpeechModel, layers: Mapping[str, Layer], rules: Mapping[str, Rule]) -> Iterator[None]:
    """Within, what the named layers of a model that holds `layers` read is rounded by their rules, and by no others."""
    hooks = []
    for name, rule in rules.items():
        module = _multiplying(model, layers[name])
        model.paths.set(name, module, float_path(layers[name]))
        hooks.append(module.register_forward_pre_hook(_hook(rule)))  # behind the path's, which turns and divides
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name in rules:
            model.paths.set(name, _multiplying(model, layers[name]), layers[name].input)


def rules_of(
    model: SpeechModel, layers: Mapping[str, Layer], rule_of: Callable[[Layer], Rule | None]
) -> dict[str, Rule]:
    """The rule of each layer whose inputs a runtime rounds; a table that is only looked up reads nothing."""
    found = {name: rule_of(layer) for name, layer in layers.items() if model.shapes[name].multiplies}
    return {name: rule for name, rule in found.items() if rule is not None}


def _multiplying(model: SpeechModel, layer: Layer) -> nn.Module:
    """The module that multiplies by a layer: the head, if it is the embedding."""
    return model.head if layer.kind == "embedding" else model.find(layer.name)


def _hook(rule: Rule) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        first = inputs[0]
        across = isinstance(module, nn.Conv1d)  # its vectors lie along dimension 1
        return (rule(first.transpose(1, 2)).transpose(1, 2) if across else rule(first), *inputs[1:])

    return hook
