"""A recipe against one model: the layers of each step, and whether each step may do there what it would."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sottovoce.methods import TRAINING_NEEDS
from sottovoce.models.base import SpeechModel
from sottovoce.numbers.grid import check_groups
from sottovoce.recipes.matching import chosen_layers
from sottovoce.recipes.recipe import Recipe, Step


@dataclass(frozen=True)
class Selection:
    """A recipe against one model: the layers that each step works on, and those that there are in the end.

    Names are as they are when the step begins: a step that drops blocks leaves others their numbers.
    """

    recipe: Recipe
    layers: tuple[tuple[str, ...], ...]
    last: frozenset[str] | None = None

    def segments(self) -> Iterator[tuple[bool, list[tuple[Step, tuple[str, ...]]]]]:
        """(is a model-scope step, steps with their layers): runs of layer and block steps share one sweep."""
        runs: list[tuple[bool, list[tuple[Step, tuple[str, ...]]]]] = []
        for step, names in zip(self.recipe.steps, self.layers, strict=True):
            whole_model = step.method.scope == "model"
            if whole_model or not runs or runs[-1][0]:
                runs.append((whole_model, []))
            runs[-1][1].append((step, names))
        yield from runs


def select(recipe: Recipe, model: SpeechModel, existing: Mapping[str, Mapping[str, str]] | None = None) -> Selection:
    """The layers of each step, in a model that may have no weights.

    existing says which parts of a layer an earlier compression wrote, and by what. Raises ValueError for a
    pattern without a match, a size that does not divide, a step that would undo an earlier one.
    """
    chosen: list[tuple[str, ...]] = []
    layout = model  # as the steps before leave it
    written = {name: dict((existing or {}).get(name, {})) for name in model.shapes}
    for step in recipe.steps:
        names = chosen_layers(step, layout)
        chosen.append(names)
        _check_frontend(step, layout, names)
        if reason := step.method.refuse_model(layout, names, step.options):
            raise ValueError(reason)
        for name in names:
            _check_layer(step.on(layout.components[name]), layout, name)
            _check_order(step, name, written[name])
            for part in step.method.writes(step.options):
                written[name][part] = step.method.name
        if step.method.reshape:
            layout = layout.again() if layout is model else layout
            now = step.method.reshape(layout, step.options)
            written = {now[name]: parts for name, parts in written.items() if name in now}
    return Selection(recipe, tuple(chosen), frozenset(layout.shapes))


def _check_frontend(step: Step, model: SpeechModel, names: Sequence[str]) -> None:
    """Refuse fewer bits for frontends alone than the step leaves them with."""
    if not names or not step.method.options.takes_grid:
        return
    asked = step.options["bits"]
    if all("frontend" in model.components[name] for name in names) and step.on(frozenset({"frontend"})) != step:
        raise ValueError(
            f"{step.method.name} of {' '.join(step.where)} asks for bits={asked} and "
            f"group_size={step.options['group_size']}, and frontend_bits={step.options['frontend_bits']} keeps them at "
            f"{max(asked, step.options['frontend_bits'])} per channel; frontend_bits: null would work"
        )


def _check_layer(step: Step, model: SpeechModel, name: str) -> None:
    shape = model.shapes[name]
    if step.method.options.takes_groups:
        check_groups(step.options["group_size"], shape.columns, name)
    if "input" in step.method.parts and not shape.multiplies:
        raise ValueError(
            f"{step.method.name} works on the input of a layer, and {name} is an embedding that is only looked up; "
            "exclude it with where"
        )
    if reason := step.method.refuse(shape, step.options):
        raise ValueError(reason)


def _check_order(step: Step, name: str, written: Mapping[str, str]) -> None:
    method, owns = step.method.name, step.method.owns
    if owns == "structure":
        if earlier := next((by for part, by in written.items() if part != "structure"), None):
            raise ValueError(f"{method} drops blocks after {earlier} has changed {name}; put {method} first")
        return
    if step.needs & TRAINING_NEEDS and step.options.get("hidden") and (earlier := written.get("structure")):
        raise ValueError(
            f"{method} would imitate the uncompressed model block by block, and {earlier} has dropped some; set hidden "
            "to 0, or drop them after it"
        )
    # a range found at run time follows a change of channels, but not a turn
    inputs = "input" if step.method.scope == "model" else "range"
    settled = [part for part in ("mask", "base", "low_rank", inputs) if part in written]
    if (owns == "basis" or step.method.moves_basis(step.options)) and settled:
        what, by = "inputs" if settled == [inputs] else "weights", written[settled[0]]
        raise ValueError(
            f"{method} rescales or rotates {what} that {by} has already fixed ({name}); put {method} first"
        )
    if owns == "basis" and step.method.scope == "model" and (earlier := written.get("turn")):
        raise ValueError(f"{method} would rotate the residual stream that {earlier} has rotated; drop one of the two")
    imitated = [name for name in step.method.imitates if step.options[name]]
    if imitated and (earlier := written.get("turn")):
        raise ValueError(
            f"{method} would imitate the residual stream of the uncompressed model, which {earlier} has rotated; "
            f"set {' and '.join(imitated)} to 0, or put {method} first"
        )
    if owns == "values":
        return
    if step.method.floats and (earlier := written.get("base")):
        raise ValueError(f"{method} works on floats, and {earlier} has rounded {name}; put {method} first")
    writes = step.method.writes(step.options)
    if owns != "basis" and (earlier := next((written[part] for part in writes if part in written), None)):
        raise ValueError(
            f"{method} would overwrite what {earlier} wrote in {name}; name different layers with "
            "where, or drop one of the two"
        )
    if owns == "low_rank" and "base" not in writes and not ({"base", "mask"} & set(written)):
        raise ValueError(
            f"{method} corrects the error of pruning or quantization, and neither comes before it in "
            f"{name}; add one, or set replace: true"
        )
    if owns == "mask" and "low_rank" in written:
        raise ValueError(f"{method} masks {name} after {written['low_rank']} was fitted; put it before")
