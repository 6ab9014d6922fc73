"""One pass over the inputs of a unit's layers: what its sites saw, padding left out."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.calibration.received import Attention, watched_attention
from sottovoce.calibration.statistics import InputStats
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip, Context, Site, Stack, Unit
from sottovoce.numbers.fast_products import fast_products
from sottovoce.weights.input_path import InputPath

Asked = Mapping[str, frozenset[str]]  # a site's name -> the statistics that some step uses of it


@dataclass
class State:
    """One clip on its way: what goes into the next unit, and what its units share."""

    hidden: Tensor
    context: Context


def enter(stack: Stack, clips: Sequence[Clip], before: Sequence[State]) -> list[State]:
    """Every clip at the entry of a stack; what left the stack before is there, with no stack before nothing."""
    if not before:
        return [State(*stack.enter(clip, None, None)) for clip in clips]
    return [State(*stack.enter(clip, state.hidden, state.context)) for clip, state in zip(clips, before, strict=True)]


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
        elif site.collected == "out" and asked.get(site.name):
            stats[site.name] = _put_out(model, unit, site, states, asked[site.name])
    here = [site for site in unit.sites if site.collected == "here" and asked.get(site.name)]
    return stats | _watch(model, unit, here, asked, states)


def _put_out(model: SpeechModel, unit: Unit, site: Site, states: Sequence[State], needs: frozenset[str]) -> InputStats:
    """What the unit puts out as it stands; all positions count alike."""
    stats = InputStats()
    for state in states:
        stats.add(run(model, unit, state)[0, : state.context.valid[site.over]], needs)
    return stats.finish()


@fast_products()
def memory_statistics(
    model: SpeechModel, decoder: Stack, states: Sequence[State], needs: frozenset[str], path: InputPath
) -> InputStats:
    """What cross-attention's keys and values multiply after the `path` of their input, once for all decoder blocks.

    A frame's attention is what it receives in the cross-attention of all blocks, the decoder as it stands.
    """
    stats = InputStats()
    for state in states:
        assert state.context.memory is not None
        frames = state.context.valid["frames"]
        received = _received_from_tokens(model, decoder, state)[:frames] if "attended" in needs else None
        memory = state.context.memory[0].to(model.module.device)
        stats.add(path(memory[:frames]), needs, received, path(memory[frames:]))
    return stats.finish()


def _received_from_tokens(model: SpeechModel, decoder: Stack, state: State) -> Tensor:
    """(frames,) float32: the attention that one clip's frames receive from its tokens."""
    total: list[Tensor] = []

    def see(module: nn.Module, attention: Attention) -> None:
        total.append(attention.received(state.context.valid["tokens"]))

    attentions = [attention for unit in decoder.units for attention in unit.attentions]
    crossing = [model.find(attention.module) for attention in attentions if attention.across]
    hidden = state.hidden
    with watched_attention(model.module, crossing, see):
        for unit in decoder.units[:-1]:
            hidden = run(model, unit, State(hidden, state.context))
    return torch.stack(total).sum(0)


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


def pass_all(model: SpeechModel, clips: Sequence[Clip], entered: Callable[[Context], None]) -> None:
    """Run every clip through all units as they stand; `entered` sees what its units share as it enters a stack."""
    for clip in clips:
        left: Tensor | None = None
        context: Context | None = None
        for stack in model.stacks:
            state = State(*stack.enter(clip, left, context))
            entered(state.context)
            for unit in stack.units:
                state.hidden = run(model, unit, state)
            left, context = state.hidden, state.context


def _watch(
    model: SpeechModel, unit: Unit, sites: Sequence[Site], asked: Asked, states: Sequence[State]
) -> dict[str, InputStats]:
    stats = {site.name: InputStats() for site in sites}
    if not sites:
        return stats
    within = next((each.module for each in unit.attentions if not each.across), None)
    attention = within if any("attended" in asked[site.name] for site in sites) else None
    seen: set[str] = set()
    clip: list[tuple[Site, Tensor, int]] = []  # what a clip's attention, not known yet, will weigh
    received: list[Tensor] = []
    current: list[Context] = []

    def stop_at_the_last() -> None:
        if len(seen) == len(sites) and (received or not attention):
            raise _EnoughError

    def watcher(site: Site) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        weighed = attention and "attended" in asked[site.name]

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            vectors, valid = input_vectors(module, inputs[0]), current[-1].valid[site.over]
            if weighed:
                clip.append((site, vectors, valid))
            else:
                stats[site.name].add(vectors[:valid], asked[site.name], padding=vectors[valid:])
            seen.add(site.name)
            stop_at_the_last()

        return hook

    def see(module: nn.Module, attention: Attention) -> None:
        positions = current[-1].valid[sites[0].over]
        received.append(attention.received(positions)[:positions])
        stop_at_the_last()

    handles = [model.find(site.readers[0]).register_forward_pre_hook(watcher(site)) for site in sites]
    watching = watched_attention(model.module, [model.find(attention)], see) if attention else nullcontext()
    try:
        with watching:
            for state in states:
                for of_one_clip in (seen, clip, received):
                    of_one_clip.clear()
                current.append(state.context)
                with suppress(_EnoughError):
                    run(model, replace(unit, name="watched"), state)
                for site, vectors, valid in clip:
                    stats[site.name].add(vectors[:valid], asked[site.name], received[0], vectors[valid:])
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
