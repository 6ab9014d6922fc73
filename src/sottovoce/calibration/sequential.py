"""Statistics of a model's layers, unit by unit: each unit's layers may be changed before the next one is seen."""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch

from sottovoce.calibration.collect import State, collect, head_statistics, memory_statistics, run
from sottovoce.calibration.statistics import InputStats
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip, Site, Stack
from sottovoce.weights.input_path import InputPath


@torch.no_grad()
def in_sequence(
    model: SpeechModel,
    clips: Sequence[Clip],
    names: Collection[str],
    needs: frozenset[str],
    see: Callable[[Mapping[str, InputStats]], None],
) -> None:
    """Call `see` for each unit with the statistics of those of its layers that are in `names`, by layer.

    What `see` writes into the model, later units hear. Raises ValueError for no clips.
    """
    if not clips:
        raise ValueError("statistics of what layers read need at least one clip")
    states: list[State] = []
    for stack in model.stacks:
        states = _entered(stack, clips, states)
        shared: dict[str, InputStats] = {}
        for unit in stack.units:
            sites = [site for site in unit.sites if site.collected != "out" and set(site.readers) & set(names)]
            shared |= {
                site.name: found
                for site in sites
                if site.name not in shared and (found := _of_no_unit(model, stack, states, site, needs))
            }
            stats = collect(model, unit, states, {site.name: needs for site in sites}, shared)
            see({name: stats[site.name] for site in sites for name in site.readers if name in names})
            if unit is not stack.units[-1] or stack is not model.stacks[-1]:
                for state in states:
                    state.hidden = run(model, unit, state)


def _entered(stack: Stack, clips: Sequence[Clip], before: Sequence[State]) -> list[State]:
    if not before:
        return [State(*stack.enter(clip, None, None)) for clip in clips]
    return [State(*stack.enter(clip, left.hidden, left.context)) for clip, left in zip(clips, before, strict=True)]


def _of_no_unit(
    model: SpeechModel, stack: Stack, states: Sequence[State], site: Site, needs: frozenset[str]
) -> InputStats | None:
    """The statistics of a site that belongs to no single unit; None of another."""
    path = model.paths.paths.get(site.readers[0], InputPath())
    if site.collected == "memory":
        return memory_statistics(model, stack, states, needs, path)
    if site.collected == "head":
        return head_statistics(model, stack, states, needs, path)
    return None
