"""A sweep file: models, data, calibration and recipes whose values may be lists.

    models: [path/or/hub-id]
    data: [test.jsonl]
    calibration: {data: calib.jsonl, limit: 64}
    train: train.jsonl                                   # for recipes that train
    normalizer: auto                                     # or whisper-english, whisper-basic, basic-marks, none
    workload: {seconds: 10, tokens: 32}
    time: onnx                                           # time each row there, beside the uncompressed model
    skip_unusable: true                                  # leave out clips that one of the models cannot use
    recipes:
      - gptq-w4                                          # built in, or a file
      - grid: {bits: [8, 4, 3, 2], symmetric: false}     # each value of a list is a row
        steps: [[rtn, gptq, [awq, rtn]]]                 # a step that is a list: each of it in turn; a list in it
                                                         # stays together
      - steps: [{wanda: {sparsity: [0.5, "2:4"]}}]

Paths are relative to the current folder, as on the command line.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sottovoce.files.documents import read_yaml, set_path
from sottovoce.measure.evaluate import DEFAULT_NORMALIZER
from sottovoce.nearest import unknown
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.recipe import Recipe
from sottovoce.speech.text import NormalizerChoice
from sottovoce.sweeping.timed import ENGINES
from sottovoce.weights.cost import Workload

_PARTS = (
    "models",
    "data",
    "calibration",
    "train",
    "normalizer",
    "language",
    "workload",
    "time",
    "keep_artifacts",
    "skip_unusable",
    "recipes",
    "description",
)
_CALIBRATION = ("data", "limit", "seed", "tokens")
_SWITCHES = {"keep_artifacts": True, "skip_unusable": False}  # by default
_LISTS = ("where",)  # options that are lists by nature


@dataclass(frozen=True)
class CalibrationPlan:
    """What one row is calibrated on."""

    data: str
    limit: int | None = None
    seed: int = 0
    tokens: str = "own"


@dataclass(frozen=True)
class SweepPlan:
    """A checked sweep file with every list spread out."""

    models: tuple[str, ...]
    data: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    calibrations: tuple[CalibrationPlan, ...]
    train: str | None
    normalizer: str
    language: str | None
    workload: Workload | None
    time: str | None
    keep_artifacts: bool
    skip_unusable: bool


def read_sweep(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> SweepPlan:
    """Read and check a sweep file; overrides are paths into it, as "calibration.limit=16".

    Raises ValueError for anything that no row could work with.
    """
    name = "sweep" if isinstance(source, Mapping) else str(source)
    if not isinstance(source, Mapping) and not Path(source).is_file():
        raise ValueError(f"sweep {source} does not exist; give a YAML file such as sweeps/quickstart.yaml")
    document = copy.deepcopy(dict(source)) if isinstance(source, Mapping) else read_yaml(Path(source))
    if not isinstance(document, dict):
        raise ValueError(
            f"{name} holds a {type(document).__name__}; a mapping with models, data and recipes would work"
        )
    for override in overrides:
        path, _, text = override.partition("=")
        set_path(document, path, _value(override, text))
    for part in document:
        if part not in _PARTS:
            raise unknown(f"part of {name}", str(part), _PARTS)
    recipes = tuple(recipe for entry in _listed(document, "recipes", name) for recipe in _recipes(entry))
    calibrations = tuple(_calibrations(document.get("calibration"), name))
    if not calibrations and any(recipe.needs for recipe in recipes):
        needy = next(recipe.name for recipe in recipes if recipe.needs)
        raise ValueError(f"{name}: recipe {needy} needs calibration audio; add calibration: {{data: calib.jsonl}}")
    train = document.get("train")
    if train is not None and not isinstance(train, str):
        raise ValueError(f"{name}: train is {train!r}; the path of one training set would work")
    if train is None and (untaught := next((recipe.name for recipe in recipes if recipe.trains), None)):
        raise ValueError(f"{name}: recipe {untaught} trains; add train: train.jsonl")
    switches = {part: document.get(part, usual) for part, usual in _SWITCHES.items()}
    for part, value in switches.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}: {part} is {value!r}; true or false would work")
    normalizer = NormalizerChoice(document.get("normalizer", DEFAULT_NORMALIZER)).name
    return SweepPlan(
        tuple(map(str, _listed(document, "models", name))),
        tuple(map(str, _listed(document, "data", name))),
        recipes,
        calibrations,
        train,
        normalizer,
        document.get("language"),
        _workload(document.get("workload"), name),
        _engine(document.get("time"), name),
        **switches,
    )


def _value(override: str, text: str) -> Any:
    from sottovoce.files.documents import parse_yaml

    if not text:
        raise ValueError(f"--set {override!r} lacks a value; write it as calibration.limit=16")
    return parse_yaml(text, f"--set {override}")


def _listed(document: Mapping[str, Any], part: str, name: str) -> list[Any]:
    value = document.get(part)
    listed = value if isinstance(value, list) else [value]
    if not value or not all(listed):
        raise ValueError(f"{name} names no {part}; write {part}: [...]")
    return listed


def _workload(document: Any, name: str) -> Workload | None:
    if document is None:
        return None
    try:
        return Workload(**document)
    except TypeError:
        raise ValueError(
            f"{name}: workload {document!r} does not fit; seconds, tokens, beam and activation_bits would work"
        ) from None


def _engine(time: Any, name: str) -> str | None:
    if time is not None and time not in ENGINES:
        raise unknown(f"engine in time of {name}", str(time), ENGINES)
    return None if time is None else str(time)


def _calibrations(document: Any, name: str) -> Iterator[CalibrationPlan]:
    if document is None:
        return
    if not isinstance(document, dict) or "data" not in document:
        raise ValueError(
            f"{name}: calibration {document!r} names no data; write calibration: {{data: calib.jsonl, limit: 64}}"
        )
    for option in document:
        if option not in _CALIBRATION:
            raise unknown(f"option of calibration in {name}", str(option), _CALIBRATION)
    for values in product(*(value if isinstance(value, list) else [value] for value in document.values())):
        plan = CalibrationPlan(**dict(zip(document, values, strict=True)))
        if plan.tokens not in ("own", "transcript"):
            raise unknown(f"calibration tokens in {name}", plan.tokens, ("own", "transcript"))
        yield plan


def _recipes(entry: Any) -> Iterator[Recipe]:
    if not isinstance(entry, dict):
        yield read_recipe(str(entry))
        return
    if not isinstance(entry.get("steps"), list):
        yield read_recipe(entry)  # which says what is wrong with it
        return
    grids = list(_spread(entry.get("grid") or {}))
    for steps in _sequences(entry["steps"]):
        for grid in grids:
            yield read_recipe({**entry, "grid": grid, "steps": steps})


def _sequences(steps: Sequence[Any]) -> Iterator[list[Any]]:
    """Every list of steps that a list with alternatives stands for."""
    for chosen in product(*(list(_step_choices(step)) for step in steps)):
        yield [step for part in chosen for step in part]


def _step_choices(step: Any) -> Iterator[list[Any]]:
    """The alternatives of one step, each as steps: of a list its items, of options with lists each combination."""
    if isinstance(step, list):
        for alternative in step:
            yield from _sequences(alternative) if isinstance(alternative, list) else _step_choices(alternative)
    elif isinstance(step, dict):
        for name, options in step.items():
            for chosen in _spread(options or {}):
                yield [{name: chosen}]
    else:
        yield [step]


def _spread(options: Any) -> Iterator[Any]:
    """Each combination of values that are lists; what is no mapping is left to the recipe's own check."""
    if not isinstance(options, dict):
        yield options
        return
    if empty := next((key for key, value in options.items() if value == []), None):
        raise ValueError(f"{empty} in recipes is an empty list, which makes no row; give a value or several")
    choices = [value if isinstance(value, list) and key not in _LISTS else [value] for key, value in options.items()]
    for values in product(*choices):
        yield dict(zip(options, values, strict=True))
