"""One pass over the inputs of a unit's layers: what its sites saw, padding left out."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.arithmetic import fast_products
from sottovoce.input_path import InputPath
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Context, Site, Stack, Unit
from sottovoce.stats import InputStats

Asked = Mapping[str, frozenset[str]]  # a site's name -> the statistics that some step uses of it


@dataclass
class State:
    """One clip on its way: what goes into the next unit, and what its units share."""

    hidden: Tensor
    context: Context


class _EnoughError(Exception):
    """Every site of the unit has been seen: the rest of its forward is not needed."""


@fast_products()
def collect(
    model: SpeechModel, unit: Unit, states: Sequence[State], asked: Asked, shared: Mapping[str, InputStats]
) -> dict[str, InputStats]:
    """The statistics of every site of `unit` that a step asks for, by the site's name."""
    stats = {site.name: shared[site.name] for site in unit.sites if site.name in shared}
    for site in unit.sites:
        if site.collected == "lookup":
            columns = model.shapes[site.readers[0]].columns
            stats[site.name] = InputStats.of_lookup(columns, model.module.device)
    here = [site for site in unit.sites if site.collected == "here" and asked.get(site.name)]
    return stats | _watch(model, here, asked, states, unit.run)


@fast_products()
def memory_statistics(
    model: SpeechModel, states: Sequence[State], needs: frozenset[str], path: InputPath
) -> InputStats:
    """What cross-attention's keys and values multiply after the `path` of their input, once for all decoder blocks."""
    stats = InputStats()
    for state in states:
        assert state.context.memory is not None
        heard = state.context.memory[0, : state.context.valid["frames"]].to(model.module.device)
        stats.add(path(heard), needs)
    return stats.finish()


@fast_products()
def head_statistics(
    model: SpeechModel, decoder: Stack, states: Sequence[State], needs: frozenset[str], path: InputPath
) -> InputStats:
    """What the tied head multiplies after the `path` of its input, from a pass through the decoder as it stands."""
    stats = InputStats()
    for state in states:
        hidden = state.hidden
        for unit in decoder.units[:-1]:
            hidden = run(model, unit, State(hidden, state.context))
        stats.add(path(hidden[0, : state.context.valid["tokens"]]), needs)
    return stats.finish()


@fast_products()
def run(model: SpeechModel, unit: Unit, state: State) -> Tensor:
    """The unit's output for one clip, on the model's device."""
    device = model.module.device
    context = state.context
    if context.memory is not None:
        context = Context(context.valid, context.block, context.memory.to(device))
    return unit.run(state.hidden.to(device), context)


def _watch(
    model: SpeechModel,
    sites: Sequence[Site],
    asked: Asked,
    states: Sequence[State],
    forward: Callable[[Tensor, Context], Tensor],
) -> dict[str, InputStats]:
    stats = {site.name: InputStats() for site in sites}
    if not sites:
        return stats
    seen: set[str] = set()
    current: list[Context] = []

    def watcher(site: Site) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            vectors = input_vectors(module, inputs[0])
            stats[site.name].add(vectors[: current[-1].valid[site.over]], asked[site.name])
            seen.add(site.name)
            if len(seen) == len(sites):
                raise _EnoughError

        return hook

    handles = [model.find(site.readers[0]).register_forward_pre_hook(watcher(site)) for site in sites]
    try:
        for state in states:
            seen.clear()
            current.append(state.context)
            with suppress(_EnoughError):
                run(model, Unit("watched", (), forward), state)
    finally:
        for handle in handles:
            handle.remove()
    return {name: found.finish() for name, found in stats.items()}


def input_vectors(module: nn.Module, x: Tensor) -> Tensor:
    """The vectors that a layer multiplies for one clip: (positions, in), a convolution's unfolded."""
    if not isinstance(module, nn.Conv1d):
        return x[0]
    padding, (kernel,), (stride,) = module.padding[0], module.kernel_size, module.stride
    assert isinstance(padding, int)
    windows = torch.nn.functional.pad(x[0], (padding, padding)).unfold(
        1, kernel, stride
    )  # (channels, positions, kernel)
    return windows.permute(1, 0, 2).flatten(1)
