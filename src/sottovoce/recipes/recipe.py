"""A recipe: which methods, in which order, on which layers, with which options.

    grid: {bits: 4, group_size: 32}       # the default of every step that rounds
    steps:
      - smoothquant
      - gptq: {where: "encoder.*"}
      - gptq: {where: [decoder, "!decoder.mlp", "!~*embed_positions"], bits: 3}
    target: onnx                          # may be left out: a runtime, which then refuses the recipe before any work

A pattern is of layers' names, or of components joined by dots: encoder, decoder, frontend (stem and
positions), blocks (attention and mlp), self_attention, cross_attention, embeddings, head. One that begins
with ! takes layers out again. Every pattern must match, but for one that begins with ~, which a recipe for
several families needs (Moonshine has no table of positions).

It is checked in two looks, both before any weight is read: the text by itself (methods, options,
ranges), then against a model's layers (patterns, groups, order).
"""

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sottovoce.files.documents import parse_yaml, read_yaml, set_path
from sottovoce.methods import TRAINING_NEEDS, Method, find
from sottovoce.methods.options import GRID_OPTIONS, frontend_options
from sottovoce.models.structure import WIDER, Component
from sottovoce.nearest import unknown
from sottovoce.numbers.grid_options import grid_of
from sottovoce.targets import find_runtime

if TYPE_CHECKING:
    from sottovoce.models.base import SpeechModel

_PARTS = ("grid", "steps", "description", "target")
COMPONENTS = frozenset(
    {"encoder", "decoder", *get_args(Component), *(name for names in WIDER.values() for name in names)}
)


@dataclass(frozen=True)
class Step:
    """One method with its layers' patterns and all of its options."""

    method: Method
    where: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def needs(self) -> frozenset[str]:
        """The statistics it uses."""
        return self.method.needs(self.options)

    @property
    def label(self) -> str:
        """As a table shows it: the method and the options that differ from their defaults."""
        defaults = {name: field.default for name, field in self.method.options.schema.model_fields.items()}
        told = [f"{name}={value}" for name, value in self.options.items() if value != defaults[name]]
        return f"{self.method.name}({', '.join(told)})" if told else self.method.name

    def on(self, components: frozenset[str]) -> "Step":
        """The step as it holds for layers of these components."""
        if "frontend" not in components or not self.method.options.takes_grid:
            return self
        return replace(self, options=frontend_options(self.options))

    def as_document(self) -> dict[str, Any]:
        """The step with every option written out."""
        return {self.method.name: {"where": list(self.where), **self.options}}


@dataclass(frozen=True)
class Recipe:
    """Checked steps in order, under a name; the runtime that they are for, if they are for one."""

    name: str
    steps: tuple[Step, ...]
    target: str | None = None

    @cached_property
    def key(self) -> str:
        """16 hex digits that change with any option, defaults included."""
        text = json.dumps(self.as_document(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def needs(self) -> frozenset[str]:
        """What any step asks of calibration audio; empty if the recipe works without."""
        return frozenset().union(*(step.needs for step in self.steps)) - TRAINING_NEEDS

    @property
    def trains(self) -> frozenset[str]:
        """What any step asks of training audio, "audio" or "transcripts" too; empty if nothing is trained."""
        return frozenset().union(*(step.needs for step in self.steps)) & TRAINING_NEEDS

    def as_document(self) -> dict[str, Any]:
        """The recipe with every option written out, as the artifact keeps it."""
        return {"steps": [step.as_document() for step in self.steps]}


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


def read_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a YAML file, a built-in name or a mapping, with overrides such as "grid.bits=3".

    An override's path starts with `grid`, with `steps` and a number from 0, or with a method's name
    for every step of that method. Raises ValueError for anything that would not work on any model.
    """
    name, document = _document(source)
    if not isinstance(document, dict):
        raise ValueError(f"recipe {name} is a {type(document).__name__}; a mapping with grid and steps would work")
    document = copy.deepcopy(document)
    for part in document:
        if part not in _PARTS:
            raise unknown(f"part of recipe {name}", str(part), _PARTS)
    document["steps"] = _steps(document, name)
    document.setdefault("grid", {})
    for override in overrides:
        _override(document, override)
        name = f"{name} {override}"
        document["steps"] = _steps(document, name)
    grid = document["grid"]
    if not isinstance(grid, dict):
        raise ValueError(
            f"grid of recipe {name} holds {grid!r}; a mapping such as {{bits: 4, group_size: 32}} would work"
        )
    for option in grid:
        if option not in GRID_OPTIONS:
            raise unknown("option of grid", str(option), GRID_OPTIONS)
    target = document.get("target")
    if target is not None:
        grid = {**find_runtime(str(target)).grid, **grid}
    return Recipe(name, tuple(_step(step, grid) for step in document["steps"]), target)


def built_in_recipes() -> dict[str, str]:
    """The recipes that come with sottovoce: name -> description."""
    folder = resources.files("sottovoce").joinpath("recipes")
    named = sorted(file.name for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {
        name.removesuffix(".yaml"): str(
            parse_yaml(folder.joinpath(name).read_text(encoding="utf-8"), name).get("description", "")
        )
        for name in named
    }


def _document(source: str | Path | Mapping[str, Any]) -> tuple[str, Any]:
    if isinstance(source, Mapping):
        return "inline", dict(source)
    path = Path(source)
    if path.is_file():
        return path.stem, read_yaml(path)
    if path.suffix in (".yaml", ".yml") or "/" in str(source):
        raise ValueError(f"recipe {source} does not exist; built in are {', '.join(built_in_recipes())}")
    if str(source) not in built_in_recipes():
        raise unknown("recipe", str(source), built_in_recipes())
    text = resources.files("sottovoce").joinpath("recipes", f"{source}.yaml").read_text(encoding="utf-8")
    return str(source), parse_yaml(text, str(source))


def _steps(document: Mapping[str, Any], recipe: str) -> list[dict[str, dict[str, Any]]]:
    steps = document.get("steps")
    if not isinstance(steps, list) or not steps:
        raise ValueError(f"recipe {recipe} has no steps; write a list such as: steps: [gptq]")
    return [_as_mapping(step, recipe) for step in steps]


def _as_mapping(step: Any, recipe: str) -> dict[str, dict[str, Any]]:
    if isinstance(step, str):
        return {step: {}}
    if isinstance(step, dict) and len(step) == 1:
        [(method, options)] = step.items()
        if options is None or isinstance(options, dict):
            return {str(method): dict(options or {})}
    raise ValueError(f"recipe {recipe}: {step!r} is not a step; write a method's name, or name: {{option: value}}")


def _override(document: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"--set {override!r} lacks a value; write it as grid.bits=3")
    value = parse_yaml(text, f"--set {override}")
    first, _, rest = path.partition(".")
    if first in ("grid", "steps"):
        if first == "steps":
            number, _, option = rest.partition(".")
            if option and number.isdigit() and int(number) < len(document["steps"]):
                [options] = document["steps"][int(number)].values()
                options[option] = value
                return
        set_path(document, path, value)
        return
    chosen = [step[first] for step in document["steps"] if first in step]
    if not chosen or not rest:
        used = [name for step in document["steps"] for name in step]
        raise ValueError(
            f"--set {override}: {first!r} is not a step of this recipe; grid, steps.0 and "
            f"{', '.join(dict.fromkeys(used))} would work"
        )
    for options in chosen:
        options[rest] = value


def _step(step: Mapping[str, Mapping[str, Any]], grid: Mapping[str, Any]) -> Step:
    [(name, given)] = step.items()
    method = find(name)
    given = dict(given)
    where = given.pop("where", list(method.where))
    patterns = (where,) if isinstance(where, str) else tuple(where) if isinstance(where, list) else ()
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f'{name}: where={where!r} is not a pattern; write "encoder.*" or a list of patterns')
    if patterns[0].startswith("!"):
        patterns = (*method.where, *patterns)
    rounds = method.options.takes_grid or method.owns == "base"  # a base without a grid may still have bits
    defaults = {option: value for option, value in grid.items() if rounds and option in method.options.names()}
    options = method.options.fill(name, defaults | given)
    if method.options.takes_grid:
        filled = grid_of(options)
        if filled.symmetric and filled.bits == 2:
            warnings.warn(
                f"{name} with symmetric 2 bits leaves -1, 0, 1, about four times worse than symmetric: false",
                stacklevel=2,
            )
    return Step(method, patterns, options)


def select(recipe: Recipe, model: "SpeechModel", existing: Mapping[str, Mapping[str, str]] | None = None) -> Selection:
    """The layers of each step, in a model that may have no weights.

    existing says which parts of a layer an earlier compression wrote, and by what. Raises ValueError for a
    pattern without a match, a size that does not divide, a step that would undo an earlier one.
    """
    chosen: list[tuple[str, ...]] = []
    layout = model  # as the steps before leave it
    written = {name: dict((existing or {}).get(name, {})) for name in model.shapes}
    for step in recipe.steps:
        names = _matches(step, layout)
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


def _matches(step: Step, model: "SpeechModel") -> tuple[str, ...]:
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


def _matched(pattern: str, model: "SpeechModel") -> set[str]:
    """The layers of all components that the pattern names, or whose names it matches."""
    words = frozenset(pattern.split("."))
    if words <= COMPONENTS:
        return {name for name in model.shapes if words <= model.components[name]}
    return {name for name in model.shapes if fnmatchcase(name, pattern)}


def _whole_sites(step: Step, model: "SpeechModel", kept: set[str]) -> set[str]:
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


def _check_frontend(step: Step, model: "SpeechModel", names: Sequence[str]) -> None:
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


def _whole_streams(step: Step, model: "SpeechModel", kept: set[str]) -> set[str]:
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


def _check_layer(step: Step, model: "SpeechModel", name: str) -> None:
    shape = model.shapes[name]
    if step.method.options.takes_grid:
        grid_of(step.options).check_columns(shape.columns, name)
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
    if owns == "values" and step.options.get("hidden") and (earlier := written.get("structure")):
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
    if owns == "values":
        imitated = [name for name in step.method.imitates if step.options[name]]
        if imitated and (earlier := written.get("turn")):
            raise ValueError(
                f"{method} would imitate the residual stream of the uncompressed model, which {earlier} has rotated; "
                f"set {' and '.join(imitated)} to 0, or put {method} first"
            )
        return
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


def _sample(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
