"""Heads and neurons left out: every block stays and is narrower, so shapes are smaller for every machine.

Which ones is said by their importance. `obs`: the squared error of the layer's output that is left once the others have
taken over what they can, one leaving after the other (Kurtic, Frantar, Alistarh, "ZipLM: Inference-Aware Structured
Pruning of Language Models", 2023, arXiv:2302.04089; numbers/leaving_out.py). `activation`: the mean square of what a
head or neuron adds to the stream (after Muralidharan et al., "Compact Language Models via Pruning and Knowledge
Distillation", 2024, arXiv:2407.14679, section 2.2, with the weights behind it). `wanda`: the sum of |W| times the norm
of the input over all weights that go with it, rows and columns (after Sun et al., 2023, arXiv:2306.11695). `taylor`:
the gradient of the model's loss by a gate before it (calibration/gates.py). Where all blocks of a stack compete, each
block's scores are shares of what its layer puts out (`wanda`: of their sum); those of `taylor` are of one loss as they
are.

What goes is not simply lost: the columns that stay take over what they can tell of it, in the least squares of what the
layer puts out, and a bias takes over its mean (`compensate`). Blocks are passed in turn, so that each makes up for what
those before it changed. In a gated MLP a neuron is a row of the values and one of the gates.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.collect import State
from sottovoce.calibration.gates import gate_gradients
from sottovoce.calibration.statistics import InputStats
from sottovoce.calibration.walk import seen_by, walk
from sottovoce.methods import method
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Inner, Stack, Unit
from sottovoce.models.widths import count_of, inner_widths
from sottovoce.numbers.leaving_out import (
    Moments,
    best_kept,
    constant_left,
    removal_errors,
    shared_budget,
    taken_over,
    written_energy,
)
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer

Amount = Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(gt=0, lt=1, strict=True)]
Heads = Annotated[Amount, Field(description="heads that leave each attention: how many, or their share, rounded down")]
Neurons = Annotated[
    Amount, Field(description="neurons that leave each MLP: how many, or their share, rounded down by multiple_of")
]
Over = Annotated[
    Literal["block", "stack"],
    Field(description="who competes: those of each attention and MLP, or those of all in the encoder or decoder"),
]
MultipleOf = Annotated[
    int, Field(ge=1, description="what divides the neurons that stay: a later group_size has to, and kernels like it")
]
Importance = Literal["activation", "wanda", "taylor", "obs"]
Chosen = tuple[str, Inner, int]  # the stack's name, whose width it is, what divides those that stay
Seen = Mapping[str, InputStats]  # by the name of a layer that reads
_MOMENTS = frozenset({"gram", "total"})


def leaving(width: int, amount: int | float, multiple: int) -> int:
    """How many of `width` go: so many, or of a share as many as leave a whole `multiple`."""
    if isinstance(amount, int):
        return amount
    stay = -(-(width - int(width * amount + 1e-9)) // multiple) * multiple
    return max(0, width - stay)


def chosen_inner(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> list[Chosen]:
    """All of which some go."""
    there = set(names)
    return [
        (stack, inner, _dividing(inner, options))
        for stack, inner in inner_widths(model)
        if options[inner.kind] and there & set(inner.layers)
    ]


def leaving_of(model: SpeechModel, chosen: Sequence[Chosen], options: Mapping[str, Any]) -> dict[str, int]:
    """How many leave each by its name, where each is asked alone."""
    return {inner.name: leaving(count_of(model, inner), options[inner.kind], multiple) for _, inner, multiple in chosen}


def _dividing(inner: Inner, options: Mapping[str, Any]) -> int:
    """What has to divide the number of those that stay."""
    return int(options["multiple_of"]) if inner.kind == "neurons" else 1


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if not options["heads"] and not options["neurons"]:
        return "prune_width leaves nothing out; heads: 1, or neurons: 0.25, would work"
    if options["importance"] == "obs" and not options["compensate"]:
        return (
            "importance: obs counts on the others to take over what goes; set compensate: true, or "
            "importance: activation"
        )
    return refuse_widths(model, names, options)


def refuse_widths(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    """Why so many `heads` and `neurons` cannot go by `multiple_of`, or not of these layers."""
    chosen = [inner for _, inner, _ in chosen_inner(model, names, options)]
    for kind in ("heads", "neurons"):
        if options[kind] and not any(inner.kind == kind for inner in chosen):
            return f"{kind}: {options[kind]}, and where selects no layer that has {kind}; leave {kind} out"
    for inner in chosen:
        if reason := _refuse_one(model, inner, names, options):
            return reason
    return None


def _refuse_one(model: SpeechModel, inner: Inner, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if outside := [name for name in inner.layers if name not in names]:
        return f"{inner.kind} of {inner.name} are in {', '.join(inner.layers)}, and where leaves out {outside[0]}"
    width, amount, multiple = count_of(model, inner), options[inner.kind], _dividing(inner, options)
    goes = leaving(width, amount, multiple)
    asked = f"{inner.kind}: {amount}"
    if goes >= width:
        return f"{asked} leaves none of the {width} of {inner.name}; at most {width - multiple} would work"
    if goes == 0:
        least = (width - 1) % multiple + 1
        return (
            f"{asked} takes none of the {width} of {inner.name}, of which a multiple of {multiple} has to stay; "
            f"{least} would work, or a share of {least / width:.3g} and more"
        )
    if (width - goes) % multiple:
        fits = width - (width - goes) // multiple * multiple
        return (
            f"{asked} leaves {width - goes} of {inner.name}, which is no multiple of {multiple} (multiple_of); "
            f"{fits} would work"
        )
    return None


def reshape_widths(layout: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> Mapping[str, str]:
    """As many as will go, not which. Where blocks compete, a width whose divisors are those of all that may come."""
    for _, inner, multiple in chosen_inner(layout, names, options):
        width = count_of(layout, inner)
        stay = width - leaving(width, options[inner.kind], multiple)
        if options["over"] == "stack":
            stay = multiple * max((n for n in range(2, stay // multiple + 1) if _prime(n)), default=1)
        layout.keep_inner(inner, torch.arange(stay))
    return {name: name for name in layout.shapes}


def _prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def widths_left(layout: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str:
    """What stays of each, as "5 of 6 heads + 1,152 of 1,536 neurons (obs)", or of all together where they differ."""
    chosen = chosen_inner(layout, names, options)
    told = []
    goes = leaving_of(layout, chosen, options)
    for kind in dict.fromkeys(inner.kind for _, inner, _ in chosen):
        here = [(stack, inner) for stack, inner, _ in chosen if inner.kind == kind]
        widths = [(count_of(layout, inner) - goes[inner.name], count_of(layout, inner)) for _, inner in here]
        stacks = {stack for stack, _ in here}
        where = f"{stacks.pop()} " if len(stacks) == 1 and len(layout.depth) > 1 else ""
        shared = options["over"] == "stack" or len(set(widths)) > 1
        stay, before = map(sum, zip(*widths, strict=True)) if shared else widths[0]
        told.append(f"{where}{stay:,} of {before:,} {kind}" + (" in all" if shared else ""))
    return f"{' + '.join(told)} ({options['importance']})"


@method(
    scope="model",
    owns="structure",
    needs=frozenset({"data"}),
    refuse_model=_refuse,
    where=("blocks",),
    writes=lambda options: ("width",),
    reshape=reshape_widths,
    left=widths_left,
)
def prune_width(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    heads: Heads = 0,
    neurons: Neurons = 0,
    importance: Annotated[Importance, Field(description="what tells who stays: see above")] = "obs",
    over: Over = "block",
    multiple_of: MultipleOf = 32,
    compensate: Annotated[
        bool, Field(description="let the columns that stay, and the bias, take over what goes, by least squares")
    ] = True,
    damp: Annotated[
        float, Field(gt=0, le=100, description="share of the mean diagonal added to the second moment of the inputs")
    ] = 0.01,
) -> Mapping[str, str]:
    """Leave out heads and neurons; every layer keeps its name."""
    if not material.clips:
        raise ValueError("prune_width needs at least one clip")
    options = {"heads": heads, "neurons": neurons, "multiple_of": multiple_of}
    chosen = chosen_inner(model, tuple(layers), options)
    goes = leaving_of(model, chosen, options)
    judge = Judge(model, layers, importance, damp)
    scores = judge.before_any(material, chosen) if importance == "taylor" or over == "stack" else {}
    if over == "stack":
        goes = shared_counts(chosen, scores, goes)
    for unit, look in _passed(model, material, goes):
        for inner in (inner for inner in unit.inner if goes.get(inner.name)):
            scored = inner.name in scores
            wanted = {} if scored else judge.needs(inner)
            if compensate:
                wanted = {**wanted, inner.reader: _MOMENTS}
            seen = look(wanted)
            score = scores[inner.name] if scored else judge.score(inner, seen, goes[inner.name])
            kept = best_kept(score, len(score) - goes[inner.name])
            leave_out(model, layers, inner, kept, judge.moments(inner, seen) if compensate else None, damp)
    return {name: name for name in model.shapes}


@dataclass(frozen=True)
class Judge:
    """How important the heads or neurons of a model are, from what the layers around them read."""

    model: SpeechModel
    layers: Mapping[str, Layer]
    importance: Importance
    damp: float

    def needs(self, inner: Inner) -> dict[str, frozenset[str]]:
        """The statistics that are asked for, by the layer that reads."""
        if self.importance == "wanda":
            return dict.fromkeys(inner.layers, frozenset({"square"}))
        return {inner.reader: _MOMENTS}

    def moments(self, inner: Inner, seen: Seen) -> Moments:
        """Of what is left out: about its mean where the reader's bias can take that over."""
        stats = seen[inner.reader]
        assert stats.gram is not None
        assert stats.total is not None
        return Moments.of(stats.gram, stats.total, stats.count, about_mean=self._bias(inner) is not None)

    def _bias(self, inner: Inner) -> Tensor | None:
        found = getattr(self.model.find(inner.reader), "bias", None)
        return found if isinstance(found, Tensor) else None

    def whole(self, inner: Inner, seen: Seen) -> Tensor:
        """(): what scores of other blocks are held against this one's by: all of what is there, about its mean."""
        if self.importance == "wanda":
            return self.score(inner, seen, 0).sum()
        w = self.layers[inner.reader].target.double()
        return ((w @ self.moments(inner, seen).second) * w).sum()

    def score(self, inner: Inner, seen: Seen, most: int) -> Tensor:
        """(n,) float64: the larger, the longer it stays; `most` is how many may go."""
        if self.importance == "wanda":
            return group_score(inner, {name: self.layers[name].target for name in inner.layers}, seen)
        w, moments = self.layers[inner.reader].target, self.moments(inner, seen)
        if self.importance == "obs":
            return removal_errors(w, moments, inner.channels, most, self.damp)
        return written_energy(w, moments, inner.channels)

    def before_any(self, material: Material, chosen: Sequence[Chosen]) -> dict[str, Tensor]:
        """The scores of each Inner by its name before any has changed; but for taylor, as shares of all it puts out."""
        if self.importance == "taylor":
            return gate_gradients(self.model, material.clips, [inner for _, inner, _ in chosen])
        scores: dict[str, Tensor] = {}
        for unit, look in _passed(self.model, material, [inner.name for _, inner, _ in chosen]):
            here = [(inner, multiple) for _, inner, multiple in chosen if inner in unit.inner]
            seen = look({name: needs for inner, _ in here for name, needs in self.needs(inner).items()})
            for inner, multiple in here:
                score = self.score(inner, seen, count_of(self.model, inner) - multiple)
                scores[inner.name] = score / self.whole(inner, seen).clamp(min=1e-30)
        return scores


def group_score(inner: Inner, weights: Mapping[str, Tensor], seen: Seen) -> Tensor:
    """(n,) float64: the sum of |W| times the root mean square of its input, over all rows and columns of each."""

    def sizes(name: str) -> Tensor:
        stats = seen[name]
        assert stats.square is not None
        return weights[name].double().abs() * (stats.square.double() / stats.count).sqrt()

    total = sizes(inner.reader).sum(0).reshape(-1, inner.channels).sum(1)
    for name in inner.writers:
        total = total + sizes(name).sum(1).reshape(inner.runs, -1, inner.channels).sum((0, 2))
    return total


@torch.no_grad()
def leave_out(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    inner: Inner,
    kept: Tensor,
    moments: Moments | None,
    damp: float,
) -> None:
    """Leave the heads or neurons `kept` (n,) int64, in module and layers; with moments the reader makes up for them."""
    reader, columns = layers[inner.reader], inner.columns(kept)
    rows = inner.rows(kept, count_of(model, inner))
    before = reader.target
    for name in inner.writers:
        layers[name].keep(rows=rows)
    reader.keep(columns=columns)
    model.keep_inner(inner, kept)
    if moments is None:
        return
    reader.change_target(taken_over(before, moments, columns, damp))
    model.assign(reader)
    bias = getattr(model.find(inner.reader), "bias", None)
    if isinstance(bias, Tensor):
        bias += constant_left(before, reader.target, moments, columns)


def _passed(
    model: SpeechModel, material: Material, names: Collection[str]
) -> Iterator[tuple[Unit, Callable[[Mapping[str, frozenset[str]]], Seen]]]:
    """(unit, look) of every unit with one of the Inners `names`; look gives what its layers read as it stands."""
    units = [unit for stack in model.stacks for unit in stack.units if _named(unit) & set(names)]
    shared: dict[str, InputStats] = {}
    for stack, unit, states in walk(model, material.clips, units[-1].name):
        if unit.name in {each.name for each in units}:
            yield unit, partial(_look, model, stack, unit, states, shared)


def _named(unit: Unit) -> set[str]:
    return {inner.name for inner in unit.inner}


def _look(
    model: SpeechModel,
    stack: Stack,
    unit: Unit,
    states: Sequence[State],
    shared: dict[str, InputStats],
    wanted: Mapping[str, frozenset[str]],
) -> Seen:
    """By layer, the statistics that are wanted of what it reads."""
    site_of = {name: site.name for site in unit.sites for name in site.readers if name in wanted}
    asked: dict[str, frozenset[str]] = defaultdict(frozenset)
    for name, site in site_of.items():
        asked[site] |= wanted[name]
    seen = seen_by(model, stack, unit, states, asked, shared) if asked else {}
    return {name: seen[site] for name, site in site_of.items()}


def shared_counts(chosen: Sequence[Chosen], scores: Mapping[str, Tensor], goes: Mapping[str, int]) -> dict[str, int]:
    """How many go of each when those of a kind compete in a stack, as many as `goes` together."""
    found: dict[str, int] = {}
    for key in dict.fromkeys((stack, inner.kind) for stack, inner, _ in chosen):
        here = [(inner.name, multiple) for stack, inner, multiple in chosen if (stack, inner.kind) == key]
        lists = [scores[name] for name, _ in here]
        stays = shared_budget(lists, sum(goes[name] for name, _ in here), here[0][1])
        found |= {name: len(each) - stay for (name, _), each, stay in zip(here, lists, stays, strict=True)}
    return found
