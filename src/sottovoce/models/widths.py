"""Heads and neurons of each block: leaving some out for good, and how config.json says so.

transformers' config has one number of heads and one of neurons for all blocks of a stack, and derives the width of a
head from theirs. Neurons that are as many in all blocks stand there. Everything else stands under a key of ours, by the
names of models/structure.py's `Inner`: "sottovoce": {"widths": {"encoder.layers.0.self_attn": 5}}.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sottovoce.models.checkpoint import Checkpoint, read_json
from sottovoce.models.companions import OWN, WIDTHS
from sottovoce.models.structure import Inner

if TYPE_CHECKING:
    from sottovoce.models.base import SpeechModel


def own_widths(checkpoint: Checkpoint) -> dict[str, int]:
    """What transformers' config does not say of a checkpoint: heads and neurons by the name of their Inner.

    Raises ValueError for what are no positive whole numbers.
    """
    said = read_json(checkpoint.folder / "config.json").get(OWN, {})
    found = said.get(WIDTHS, {}) if isinstance(said, dict) else said
    if not isinstance(found, dict) or not all(type(count) is int and count > 0 for count in found.values()):
        raise ValueError(
            f"{checkpoint.folder / 'config.json'}: {OWN} has to hold {WIDTHS}, an object of whole numbers above 0; "
            "compress the model again"
        )
    return found


def told_widths(model: "SpeechModel") -> dict[str, int]:
    """The same of a model as it is now."""
    said = model.settings.get(OWN)
    return own_widths(model.checkpoint) if said is None else said.get(WIDTHS, {})


def told_own(model: "SpeechModel") -> dict[str, Any]:
    """What config.json has to hold of them under OWN."""
    widths = told_widths(model)
    return {WIDTHS: widths} if widths else {}


def inner_widths(model: "SpeechModel") -> Iterator[tuple[str, Inner]]:
    """(the stack's name, Inner) of all blocks, in the order in which a clip meets them."""
    for stack in model.stacks:
        yield from ((stack.name, inner) for unit in stack.units for inner in unit.inner)


def count_of(model: "SpeechModel", inner: Inner) -> int:
    """How many heads or neurons there are."""
    return model.shapes[inner.reader].columns // inner.channels


def narrow(model: "SpeechModel", widths: Mapping[str, int]) -> None:
    """Give modules that are as wide as transformers' config says the `widths` that a model of ours has.

    Raises ValueError for a name that the model lacks, or more than there are.
    """
    there = {inner.name: inner for _, inner in inner_widths(model)}
    for name, count in widths.items():
        if name not in there:
            raise ValueError(f"{OWN} names the width of {name}, which this model lacks")
        before = count_of(model, there[name])
        if count > before:
            raise ValueError(f"{OWN} gives {name} {count} {there[name].kind}, and transformers' config {before}")
        cut_modules(model, there[name], torch.arange(count))


def cut_modules(model: "SpeechModel", inner: Inner, kept: Tensor) -> None:
    """Leave the heads or neurons `kept` (n,) int64 in the modules, and no others."""
    rows, columns = inner.rows(kept, count_of(model, inner)), inner.columns(kept)
    for name in inner.writers:
        module = _linear(model.find(name))
        module.weight = _part(module.weight, 0, rows)
        if module.bias is not None:
            module.bias = _part(module.bias, 0, rows)
        module.out_features = len(rows)
    reader = _linear(model.find(inner.reader))
    reader.weight = _part(reader.weight, 1, columns)
    reader.in_features = len(columns)
    if inner.kind == "heads":
        model.attend_with(model.find(inner.name), len(kept))
    model.forget_layout()


def tell_widths(model: "SpeechModel") -> None:
    """Put into a model's settings, and its modules' configs, how wide its blocks are now."""
    found: dict[str, list[tuple[Inner, int]]] = defaultdict(list)
    for stack, inner in inner_widths(model):
        found[model.widths[stack, inner.kind]].append((inner, count_of(model, inner)))
    own: dict[str, int] = {}
    for key, counted in found.items():
        counts = {count for _, count in counted}
        said = getattr(model.module.config, key)
        if len(counts) == 1 and all(inner.kind == "neurons" for inner, _ in counted) and counts != {said}:
            [said] = counts
            model.change_config({key: said})
        own |= {inner.name: count for inner, count in counted if count != said}
    if own or own_widths(model.checkpoint) or OWN in model.settings:
        model.settings[OWN] = {WIDTHS: own} if own else {}


def narrowed(plain: Any, widths: Mapping[str, int], family: Any, checkpoint: Checkpoint, frontend: Any) -> Any:
    """transformers' class `plain` with modules of these `widths` from the start; itself if there are none.

    Weights are loaded into modules of their shapes, as from any checkpoint.
    """
    if not widths:
        return plain

    class Narrowed(plain):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            narrow(family(checkpoint, self, {}, frontend), widths)

    Narrowed.__name__ = plain.__name__  # transformers looks some things up by it
    return Narrowed


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module


def _part(parameter: Tensor, dimension: int, places: Tensor) -> nn.Parameter:
    kept = parameter.detach().index_select(dimension, places.to(parameter.device))
    return nn.Parameter(kept, requires_grad=parameter.requires_grad)
