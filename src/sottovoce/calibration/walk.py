"""Clips on their way through a model, unit after unit: what stands before each, and what is seen there."""

from collections.abc import Iterator, Sequence

from sottovoce.calibration.collect import Asked, State, collect, memory_statistics, run
from sottovoce.calibration.statistics import InputStats
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip, Stack, Unit
from sottovoce.weights.input_path import InputPath


def walk(model: SpeechModel, clips: Sequence[Clip], last: str) -> Iterator[tuple[Stack, Unit, list[State]]]:
    """Every unit up to the one called `last` with each clip as it stands before it; then the clips pass the unit.

    The unit passes them as it is by then: whoever changes it in between shows the units behind what that does.
    """
    states: list[State] = []
    for stack in model.stacks:
        pairs = zip(clips, states, strict=True) if states else ((clip, None) for clip in clips)
        states = [State(*stack.enter(clip, state and state.hidden, state and state.context)) for clip, state in pairs]
        for unit in stack.units:
            yield stack, unit, states
            if unit.name == last:
                return
            for state in states:
                state.hidden = run(model, unit, state).to(state.hidden.device)


def seen_by(
    model: SpeechModel, stack: Stack, unit: Unit, states: Sequence[State], asked: Asked, shared: dict[str, InputStats]
) -> dict[str, InputStats]:
    """The statistics that are asked of a unit's sites, by their names; `shared` keeps the memory's for other units."""
    for site in unit.sites:
        if site.collected == "memory" and asked.get(site.name) and site.name not in shared:
            shared[site.name] = memory_statistics(model, stack, states, asked[site.name], InputPath())
    return collect(model, unit, states, asked, shared)
