"""Reading a recipe: which methods, in which order, on which layers, with which options.

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
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from sottovoce.files.documents import parse_yaml, read_yaml, set_path
from sottovoce.methods import find
from sottovoce.methods.options import GRID_OPTIONS
from sottovoce.nearest import unknown
from sottovoce.numbers.grid_options import grid_of
from sottovoce.recipes.recipe import Recipe, Step
from sottovoce.targets import find_runtime

_PARTS = ("grid", "steps", "description", "target")


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
