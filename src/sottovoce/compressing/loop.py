"""The sweep: one unit after the other, each step replacing one part of its weights.

Inputs are cached once for each clip. A unit is run to collect what its steps ask for, compressed, and
run again so that the next unit sees compressed inputs; a run that nobody needs is skipped. Where a step
learns from the units' outputs, the float model goes along: its hidden states pass each unit before that
is compressed.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from sottovoce.blocks.basis import Block
from sottovoce.blocks.unit import LiveUnit, Passage, unrounded
from sottovoce.calibration.collect import Asked, State, collect, enter, head_statistics, memory_statistics, run
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import TRAINING_NEEDS
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip, Site, Stack, Unit, indifferent_layers
from sottovoce.progress import Track, silent
from sottovoce.recipes.recipe import Step
from sottovoce.recipes.select import Selection
from sottovoce.training.data import Material
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Layer, Weight

Work = Sequence[tuple[Step, tuple[str, ...]]]
After = Callable[[Step, Mapping[str, Layer]], None]
Before = Callable[[int, SpeechModel, Mapping[str, Layer]], None]


@torch.no_grad()
def compress_layers(
    model: SpeechModel,
    layers: dict[str, Layer],
    selection: Selection,
    material: Material,
    track: Track = silent,
    after: After = lambda step, layers: None,
    *,
    first: int = 0,
    before: Before = lambda number, model, layers: None,
) -> None:
    """Run a recipe over the layers of `model`; `after` sees what each step changed. A step may leave fewer layers.

    first   the segment to begin with: those before it are in `layers` already
    before  sees model and layers as each segment that trains begins
    """
    for number, (whole_model, work) in enumerate(selection.segments()):
        if number < first:
            continue
        if number:
            for layer in layers.values():
                layer.settle()
        material = material.as_written_by(model.frontend)  # a step before may have numbered the tokens anew
        if whole_model:
            [(step, names)] = work
            chosen = {name: layers[name] for name in names}
            earlier = {name: layer.weight for name, layer in chosen.items()}
            here = material
            if step.needs & TRAINING_NEEDS:
                before(number, model, layers)
                here = replace(material, training=material.lessons.at(number))
            renamed = step.method.function(model, chosen, here, **step.method.options.arguments(step.options))
            if step.method.owns == "structure":
                _rename(layers, renamed)
                cut = {
                    layer.name: layer
                    for name, layer in chosen.items()
                    if name in renamed and layer.weight is not earlier[name]
                }
                _assign(model, step, cut, after)
                continue
            for layer in chosen.values():
                layer.settle()
            changed = {name: layer for name, layer in chosen.items() if _changed(earlier[name], layer.weight)}
            _assign(model, step, changed, after)
        else:
            _sweep(model, layers, work, material.clips, track, after)


def _rename(layers: dict[str, Layer], renamed: Mapping[str, str]) -> None:
    """Leave those that stay, under the names that they have now."""
    stay = {now: layers[name] for name, now in renamed.items()}
    for now, layer in stay.items():
        layer.name = now
    layers.clear()
    layers.update(stay)


def _sweep(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    work: Work,
    clips: Sequence[Clip],
    track: Track,
    after: After,
) -> None:
    units = [(stack, unit, _work_on(unit, work)) for stack in model.stacks for unit in stack.units]
    asked = _asked(model, work)
    last_shown = max((i for i, (_, _, todo) in enumerate(units) if _learns(todo)), default=-1)
    last = max(_last_to_feed(units, asked), last_shown)
    states: list[State] = []
    floats: list[State] = []
    shared: dict[str, InputStats] = {}
    for i, (stack, unit, todo) in enumerate(track(units, len(units), "units")):
        if unit is stack.units[0] and i <= last:
            states = enter(stack, clips, states)
            floats = enter(stack, clips, floats) if i <= last_shown else []
            shared = _shared(model, stack, states, asked)
        if i <= last_shown and not unit.read_later:
            with unrounded(model):
                _feed(model, unit, floats)
        if todo:
            stats = collect(model, unit, states, asked, shared)
            live = LiveUnit(model, unit, _passages(stack, states, floats)) if _learns(todo) else None
            for step, names in todo:
                _assign(model, step, _apply(model, step, names, unit, layers, stats, live), after)
        if i <= last_shown and unit.read_later:  # its readers, not rounded yet, have the new basis already
            with unrounded(model):
                _feed(model, unit, floats)
        if i < last:
            _feed(model, unit, states)


def _feed(model: SpeechModel, unit: Unit, states: Sequence[State]) -> None:
    for state in states:
        state.hidden = run(model, unit, state).to(state.hidden.device)


def _learns(work: Work) -> bool:
    """Whether a step learns from what its unit puts out."""
    return any(step.method.scope == "block" and "data" in step.needs for step, _ in work)


def _passages(stack: Stack, states: Sequence[State], floats: Sequence[State]) -> list[Passage]:
    """What a unit is given and what it should make of it; the float model has passed it already."""
    return [
        Passage(state, uncompressed.hidden, state.context.valid[stack.over])
        for state, uncompressed in zip(states, floats, strict=True)
    ]


def _work_on(unit: Unit, work: Work) -> Work:
    """The steps that touch a unit, with their layers there: for a change of basis, those that read what it changes."""
    rebased = [name for site in unit.sites if site.written for name in site.readers]

    def here(step: Step, names: Sequence[str]) -> tuple[str, ...]:
        touched = rebased if step.method.owns == "basis" else unit.layers
        return tuple(name for name in touched if name in names)

    inside = [(step, here(step, names)) for step, names in work]
    return [(step, names) for step, names in inside if names]


def _asked(model: SpeechModel, work: Work) -> Asked:
    """What the steps ask of each site: one set of statistics serves them all."""
    asked: dict[str, frozenset[str]] = defaultdict(frozenset)
    for site in (site for stack in model.stacks for unit in stack.units for site in unit.sites):
        for step, names in work:
            only_basis = step.method.owns == "basis"
            if site.collected in (("memory", "head", "lookup") if only_basis else ("out",)):
                continue
            if set(names) & set(site.readers):
                asked[site.name] |= step.needs - {"data", "head"}
                if "head" in step.needs and not _shown(site):
                    asked[site.name] |= {"gram"}
    return asked


def _shown(site: Site) -> bool:
    """Whether the output of its unit, a hidden state, shows what the site's readers do."""
    return site.collected in ("here", "memory") and site.component != "head"


def _last_to_feed(units: Sequence[tuple[Stack, Unit, Work]], asked: Asked) -> int:
    """The last unit whose inputs matter to somebody; -1 if the recipe needs no data."""
    entries = {stack.name: i for i, (stack, unit, _) in enumerate(units) if unit is stack.units[0]}
    reached = []
    for i, (stack, unit, _) in enumerate(units):
        for site in (site for site in unit.sites if asked.get(site.name)):
            shared = {"memory": entries[stack.name], "head": entries[stack.name], "lookup": -1}
            reached.append(shared.get(site.collected, i))
    return max(reached, default=-1)


def _shared(model: SpeechModel, stack: Stack, states: Sequence[State], asked: Asked) -> dict[str, InputStats]:
    """The statistics of sites that belong to no single unit."""
    shared = {}
    for site in (site for unit in stack.units for site in unit.sites):
        if site.name in shared or not asked.get(site.name):
            continue
        path = model.paths.paths.get(site.readers[0], InputPath())
        if site.collected == "memory":
            shared[site.name] = memory_statistics(model, stack, states, asked[site.name], path)
        elif site.collected == "head":
            shared[site.name] = head_statistics(model, stack, states, asked[site.name], path)
    return shared


def _apply(
    model: SpeechModel,
    step: Step,
    names: Sequence[str],
    unit: Unit,
    layers: Mapping[str, Layer],
    stats: dict[str, InputStats],
    live: LiveUnit | None,
) -> dict[str, Layer]:
    """Let a step replace its part in some layers of a unit; returns the layers that it changed."""
    if step.method.scope == "block":
        return _apply_to_block(model, step, names, unit, layers, stats, live)
    site_of = {name: site.name for site in unit.sites for name in site.readers}
    before = {name: _held(layers[name]) for name in names}
    for name in names:
        seen = stats.get(site_of[name], InputStats())
        options = step.method.options.arguments(step.on(model.components[name]).options)
        try:
            found = step.method.function(layers[name], seen, **options)
        except (ValueError, LinAlgError) as error:
            raise ValueError(f"{step.method.name} on {name}: {error}") from error
        made = (found,) if len(step.method.places) == 1 else found
        for place, value in zip(step.method.places, made, strict=True):
            setattr(layers[name], place, value)
    changed = [
        name for name in names if any(a is not b for a, b in zip(before[name], _held(layers[name]), strict=True))
    ]
    return {name: layers[name] for name in changed}


def _held(layer: Layer) -> tuple[object, ...]:
    """What a step may replace; one that gives back what was there has left the layer as it is."""
    return layer.weight, layer.input, layer.output


def _apply_to_block(
    model: SpeechModel,
    step: Step,
    names: Sequence[str],
    unit: Unit,
    layers: Mapping[str, Layer],
    stats: dict[str, InputStats],
    live: LiveUnit | None,
) -> dict[str, Layer]:
    """The same for a step that sees layers of a unit together; frontends, with options of their own, apart."""
    before = {name: layers[name].weight for name in (*unit.layers, *unit.read_later)}
    frontends = {name for name in names if "frontend" in model.components[name]}
    for chosen in (frontends, set(names) - frontends):
        if not chosen:
            continue
        here = step.on(model.components[next(iter(chosen))])
        block = Block(
            [site for site in unit.sites if site.collected in ("here", "out") and set(site.readers) <= chosen],
            layers,
            stats,
            model.find,
            indifferent_layers(model.stacks),
            tuple(name for name in names if name in chosen),
            live,
            {
                name: stats.get(site.name, InputStats())
                for site in unit.sites
                for name in site.readers
                if name in chosen and not _shown(site)
            },
            {name: site for site in unit.sites if site.collected != "out" for name in site.readers if name in chosen},
        )
        here.method.function(block, **here.method.options.arguments(here.options))
    return {name: layers[name] for name, weight in before.items() if layers[name].weight is not weight}


def _changed(earlier: Weight, now: Weight) -> bool:
    """Whether a weight became another; a training makes each anew, and may leave one as it was."""

    def outline(weight: Weight) -> tuple[bool, int]:
        return weight.mask is None, 0 if weight.low_rank is None else weight.factors()[0].shape[1]

    return outline(earlier) != outline(now) or not torch.equal(earlier.dense(), now.dense())


def _assign(model: SpeechModel, step: Step, changed: Mapping[str, Layer], after: After) -> None:
    for layer in changed.values():
        model.assign(layer)
        layer.steps.append(step.on(model.components[layer.name]).label)
    after(step, changed)
