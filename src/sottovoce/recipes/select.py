"""A recipe against one model: the layers of each step, and whether each step may do there what it would."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sottovoce.methods import TRAINING_NEEDS
from sottovoce.methods.options import ALLOCATED
from sottovoce.models.base import SpeechModel
from sottovoce.models.frontend import Frontend
from sottovoce.models.widths import told_widths
from sottovoce.numbers.grid import check_groups
from sottovoce.recipes.matching import chosen_layers
from sottovoce.recipes.recipe import Recipe, Step
from sottovoce.weights.weight import LayerShape


@dataclass(frozen=True)
class Selection:
    """A recipe against one model: the layers that each step works on, those that there are in the end, the frontend.

    Names are as they are when the step begins: a step that drops blocks leaves others their numbers. widths are those
    that transformers' config cannot say in the end. structure: what a table says that the steps leave of the model.
    """

    recipe: Recipe
    layers: tuple[tuple[str, ...], ...]
    last: Mapping[str, LayerShape] | None = None
    widths: Mapping[str, int] = field(default_factory=dict)
    frontend: Frontend | None = None
    structure: tuple[str, ...] = ()

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
    structure: list[str] = []
    layout = model  # as the steps before leave it
    written = {name: dict((existing or {}).get(name, {})) for name in model.shapes}
    for i, step in enumerate(recipe.steps):
        names = chosen_layers(step, layout)
        chosen.append(names)
        _check_tokens(step, recipe.steps[:i])
        _check_frontend(step, layout, names)
        if reason := step.method.refuse_model(layout, names, step.options):
            raise ValueError(_of_step(step, reason))
        _check_allocation(step, written)
        for name in names:
            _check_layer(step.on(layout.components[name]), layout, name)
            _check_order(step, name, written[name])
            if step.options.get("sparsity") == ALLOCATED:
                del written[name]["sparsity"]
            for part in step.method.writes(step.options):
                written[name][part] = step.method.name
        if step.method.left:
            structure.append(step.method.left(layout, names, step.options))
        if step.method.reshape:
            layout = layout.again() if layout is model else layout
            now = step.method.reshape(layout, names, step.options)
            written = {now[name]: parts for name, parts in written.items() if name in now}
    if unused := next(((name, parts["sparsity"]) for name, parts in written.items() if "sparsity" in parts), None):
        raise ValueError(
            f"{unused[1]} gives {unused[0]} a sparsity, and no step after it drops by it; add wanda: "
            f"{{sparsity: {ALLOCATED}}}, or another pruner, with the same where"
        )
    return Selection(recipe, tuple(chosen), layout.shapes, told_widths(layout), layout.frontend, tuple(structure))


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


def _check_allocation(step: Step, written: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse a training that would be stopped and resumed without the sparsities that wait for their pruner."""
    waiting = next((parts["sparsity"] for parts in written.values() if "sparsity" in parts), None)
    if waiting and step.needs & TRAINING_NEEDS:
        raise ValueError(
            f"{step.method.name} would train between {waiting} and the step that drops by its sparsities; put "
            f"{step.method.name} before or after both"
        )


def _check_tokens(step: Step, before: Sequence[Step]) -> None:
    """Refuse a second cut of the vocabulary."""
    if step.method.owns == "vocabulary" and any(other.method.owns == "vocabulary" for other in before):
        raise ValueError(f"{step.method.name} stands twice in the recipe; one cut, to the smaller size, would work")


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
        raise ValueError(_of_step(step, reason))


def _of_step(step: Step, reason: str) -> str:
    """A method's refusal, with its name where it does not say it."""
    return reason if step.method.name in reason else f"{step.method.name}: {reason}"


_BEFORE_STRUCTURE = ("structure", "width", "values")  # what leaves plain floats, whose rows and columns can go


def _check_order(step: Step, name: str, written: Mapping[str, str]) -> None:
    method, owns = step.method.name, step.method.owns
    if owns == "vocabulary":  # rows are told apart by every part, so what was done to the others stays as it is
        if earlier := written.get("factors"):
            raise ValueError(
                f"{method} cuts rows of {name}, whose factors {earlier} has rounded; leave {name} out of {earlier}"
            )
        if earlier := written.get("wrappers"):
            raise ValueError(
                f"{method} cuts rows of {name}, which {earlier} multiplies in blocks; leave {name} out of {earlier}"
            )
        return
    if step.needs & TRAINING_NEEDS and step.options.get("hidden") and (earlier := written.get("structure")):
        raise ValueError(
            f"{method} would imitate the uncompressed model block by block, and {earlier} has dropped some; set hidden "
            "to 0, or drop them after it"
        )
    if owns == "structure":
        if earlier := next((by for part, by in written.items() if part not in _BEFORE_STRUCTURE), None):
            raise ValueError(f"{method} changes the structure after {earlier} has changed {name}; put {method} first")
        return
    # a range found at run time follows a change of channels, but not a turn
    inputs = "input" if step.method.scope == "model" else "range"
    settled = [part for part in ("mask", "base", "low_rank", inputs, "zeros") if part in written]
    if (owns == "basis" or step.method.moves_basis(step.options)) and settled:
        what, by = "inputs" if settled[0] in (inputs, "zeros") else "weights", written[settled[0]]
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
    writes = step.method.writes(step.options)
    if owns == "values":
        if "low_rank" in writes and (earlier := written.get("factors") or written.get("factor_mask")):
            did = "rounded" if "factors" in written else "pruned"
            raise ValueError(
                f"{method} would add float columns to factors that {earlier} has {did} in {name}; put {method} first"
            )
        return
    if step.options.get("sparsity") == ALLOCATED and "sparsity" not in written:
        raise ValueError(
            f"{method} would drop of {name} the share that a step before gave it, and none does; put owl before it "
            "(for these layers), or write a share, as 0.5"
        )
    if owns != "basis" and (earlier := next((written[part] for part in writes if part in written), None)):
        raise ValueError(
            f"{method} would overwrite what {earlier} wrote in {name}; name different layers with "
            "where, or drop one of the two"
        )
    if "base" in writes and step.needs and (earlier := written.get("wrappers")):
        raise ValueError(
            f"{method} looks at what {name} reads, and the weights that {earlier} left read a product of that; take a "
            "method that looks at weights alone, as rtn"
        )
    if owns == "low_rank" and "base" not in writes and not ({"base", "mask"} & set(written)):
        raise ValueError(
            f"{method} corrects the error of pruning or quantization, and neither comes before it in "
            f"{name}; add one, or set replace: true"
        )
    if owns == "factors" and "low_rank" not in written:
        raise ValueError(
            f"{method} works on the factors of a low-rank term, and no step before it gives {name} one; put low_rank, "
            "lora or liteasr before it, or name other layers with where"
        )
    if "mask" in step.method.parts and (earlier := written.get("base")) and earlier != written.get("low_rank"):
        raise ValueError(
            f"{method} would drop weights of {name} that {earlier} has already rounded; prune first, then quantize "
            f"({method} before {earlier}), or take sparsegpt_joint, which does both at once"
        )
    if owns == "factors" and (earlier := written.get("factors")):
        raise ValueError(f"{method} fits factors anew that {earlier} has rounded in {name}; put {method} first")
    if "mask" in step.method.parts and "low_rank" in written:
        raise ValueError(f"{method} masks {name} after {written['low_rank']} was fitted; put it before")
