"""The layers that a step's patterns choose: by name or by component, with whole sites where its method needs them."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import get_args

from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import WIDER, Component
from sottovoce.recipes.recipe import Step

COMPONENTS = frozenset(
    {"encoder", "decoder", *get_args(Component), *(name for names in WIDER.values() for name in names)}
)


def chosen_layers(step: Step, model: SpeechModel) -> tuple[str, ...]:
    """The layers of a model that a step works on, in the model's order.

    Raises ValueError for a pattern that matches none, or a part of what has to change together.
    """
    names = list(model.shapes)
    kept: set[str] = set()
    for pattern in step.where:
        bare = pattern.removeprefix("!")
        matched = _matched(bare.removeprefix("~"), model)
        if not matched and not bare.startswith("~"):
            raise ValueError(
                f"{step.method.name}: where {pattern!r} matches no layer; there are {_sample(names)}, and components: "
                f"{', '.join(sorted(frozenset().union(*model.components.values())))}"
            )
        kept = kept - matched if pattern.startswith("!") else kept | matched
    if step.method.scope == "block" and step.method.owns == "basis":
        kept = _whole_sites(step, model, kept)
    elif step.method.owns == "basis":
        kept = _whole_streams(step, model, kept)
    if not kept and not all(pattern.startswith("~") for pattern in step.where):
        raise ValueError(f"{step.method.name}: where {' '.join(step.where)} leaves no layer that it can work on")
    return tuple(name for name in names if name in kept)


def _matched(pattern: str, model: SpeechModel) -> set[str]:
    """The layers of all components that the pattern names, or whose names it matches."""
    words = frozenset(pattern.split("."))
    if words <= COMPONENTS:
        return {name for name in model.shapes if words <= model.components[name]}
    return {name for name in model.shapes if fnmatchcase(name, pattern)}


def _whole_sites(step: Step, model: SpeechModel, kept: set[str]) -> set[str]:
    """The layers of the sites whose readers all match, of those that the method can change."""
    whole: set[str] = set()
    for stack in model.stacks:
        for site in (site for unit in stack.units for site in unit.sites if site.written):
            if step.method.after_norms and site.writer in model.shapes:
                continue
            inside = [name for name in site.readers if name in kept]
            if inside and len(inside) < len(site.readers):
                outside = [name for name in site.readers if name not in kept]
                raise ValueError(
                    f"{step.method.name}: {', '.join(inside)} and {', '.join(outside)} share one "
                    "input, so where must match all or none of them"
                )
            if inside:
                whole |= set(site.readers)
    return whole


def _whole_streams(step: Step, model: SpeechModel, kept: set[str]) -> set[str]:
    """The layers of all blocks, which a turn of the streams changes together."""
    whole = {name for stack in model.stacks for unit in stack.units if unit.writers for name in unit.layers}
    if not whole:
        raise ValueError(
            f"{step.method.name} rotates residual streams, and {model.checkpoint.name} has none that it could: its "
            "blocks norm their sums, and not what they read; gptq, awq and smoothquant work without a rotation"
        )
    if outside := [name for name in model.shapes if name in whole - kept]:
        raise ValueError(
            f"{step.method.name} rotates the residual stream of all blocks, so where must select every layer of them; "
            f"it leaves out {_sample(outside)}"
        )
    return whole


def _sample(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
