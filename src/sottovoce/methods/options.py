"""A method's options, read from its signature: names, types, ranges, defaults, one line of text each.

An option is a keyword-only parameter annotated as `Annotated[type, Field(..., description=...)]`. A
parameter `grid: Grid` stands for the grid's own fields, so that a recipe writes `bits: 3` and the
method receives a Grid; `spread: Spread` (a grid but for its bits), `training: Training`, `losses: Losses` and
`learning: Learning` likewise.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from sottovoce.blocks.settings import Learning
from sottovoce.nearest import unknown
from sottovoce.numbers.grid import SCALE_DTYPES, Grid
from sottovoce.numbers.grid_options import grid_of
from sottovoce.training.augment import Augmentation
from sottovoce.training.losses import Losses
from sottovoce.training.settings import Training

ALLOCATED = "allocated"


def _sparsity(value: object) -> object:
    if value == ALLOCATED:
        return value
    if isinstance(value, str) and ":" in value:
        kept, _, of = value.partition(":")
        if not (kept.isdigit() and of.isdigit() and 0 < int(kept) < int(of)):
            raise ValueError("n:m keeps n of m neighbours, with n from 1 to m - 1, as 2:4")
        return value
    number = -1.0
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(ValueError):
            number = float(value)
    if not 0 < number < 1:
        raise ValueError("must be a share between 0 and 1, as 0.5, or n:m, as 2:4, or allocated, by owl before it")
    return number


Sparsity = Annotated[
    float | str,
    BeforeValidator(_sparsity),
    Field(
        description="the share of weights dropped, n:m to keep n of each m neighbouring inputs (2:4), or allocated: "
        "the share that a step before gave to each layer (owl)"
    ),
]


def _n_of_m(value: object) -> object:
    if not (isinstance(value, str) and ":" in value):
        raise ValueError("must be n:m, as 2:4, which keeps 2 of each 4 neighbouring inputs")
    return _sparsity(value)


NofM = Annotated[str, BeforeValidator(_n_of_m), Field(description="n:m, to keep n of each m neighbouring inputs (2:4)")]
FactorDtype = Annotated[
    Literal["float16", "bfloat16", "float32"], Field(description="the dtype in which values are stored")
]


class GridOptions(BaseModel):
    """The options that a `grid: Grid` parameter stands for."""

    model_config = ConfigDict(extra="forbid")

    bits: int = Field(4, ge=2, le=8, description="bits of an integer weight")
    group_size: Annotated[int, Field(ge=1)] | Literal["channel", "tensor"] = Field(
        "channel", description='inputs that share a scale: a number that divides them, "channel" or "tensor"'
    )
    symmetric: bool = Field(
        True,
        description="symmetric grid around zero (-7..7 at 4 bits); false: asymmetric, a zero point for each group",
    )
    scale_dtype: Literal["float16", "bfloat16", "float32"] = Field(
        "float16", description="the dtype in which scales are stored"
    )
    frontend_bits: Annotated[int, Field(ge=2, le=8)] | None = Field(
        8,
        description="least bits of convolutions and position tables, a scale per channel; null: as other layers",
    )


GRID_OPTIONS = tuple(GridOptions.model_fields)
SPREAD_OPTIONS = tuple(name for name in GRID_OPTIONS if name not in ("bits", "frontend_bits"))


@dataclass(frozen=True)
class Spread:
    """A grid but for its bits, which the method chooses for each layer."""

    options: Mapping[str, Any]

    def at(self, bits: int) -> Grid:
        """The grid of that many bits."""
        return grid_of({**self.options, "bits": bits})


SpreadOptions = create_model(
    "SpreadOptions",
    __config__=GridOptions.model_config,
    **{name: (GridOptions.model_fields[name].annotation, GridOptions.model_fields[name]) for name in SPREAD_OPTIONS},  # type: ignore[call-overload]
)


@dataclass(frozen=True)
class Group:
    """Options that stand in a recipe one by one, and reach a method as one argument."""

    schema: type[BaseModel]
    build: Callable[[Mapping[str, Any]], Any]


def _whole(schema: type[BaseModel]) -> Group:
    """A group whose argument is the schema itself."""
    return Group(schema, lambda options: schema(**{name: options[name] for name in schema.model_fields}))


GROUPS: dict[Any, Group] = {
    Grid: Group(GridOptions, grid_of),
    Spread: Group(SpreadOptions, lambda options: Spread({name: options[name] for name in SPREAD_OPTIONS})),
    Training: _whole(Training),
    Augmentation: _whole(Augmentation),
    Losses: _whole(Losses),
    Learning: _whole(Learning),
}


@dataclass(frozen=True)
class OptionTable:
    """The options of one method; groups are the parameters that stand for several."""

    schema: type[BaseModel]
    groups: Mapping[str, Group]

    @staticmethod
    def of(function: Callable[..., Any]) -> "OptionTable":
        """Read the keyword-only parameters of `function`."""
        fields: dict[str, Any] = {}
        groups: dict[str, Group] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                continue
            kind, *said = get_args(parameter.annotation) or (parameter.annotation,)
            if kind in GROUPS:
                groups[parameter.name] = GROUPS[kind]
                fields |= _defaults(GROUPS[kind].schema, *said)
                continue
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (parameter.annotation, default)
        bases = tuple(group.schema for group in groups.values()) or (_NoGroup,)
        return OptionTable(create_model(function.__name__, __base__=bases, **fields), groups)

    @property
    def takes_groups(self) -> bool:
        """Whether a layer's inputs are parted in groups, which must divide them."""
        return any(group.schema in (GridOptions, SpreadOptions) for group in self.groups.values())

    @property
    def takes_grid(self) -> bool:
        """Whether the recipe's grid is for it."""
        return any(group.schema is GridOptions for group in self.groups.values())

    def names(self) -> list[str]:
        """The names that a recipe may set."""
        return list(self.schema.model_fields)

    def headings(self) -> list[str]:
        """The names for a short list: a group's own name stands for all of its options."""
        grouped = {name for group in self.groups.values() for name in group.schema.model_fields}
        return [*self.groups, *(name for name in self.names() if name not in grouped)]

    def fill(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` with defaults filled in. Raises ValueError for an unknown option or a value out of range."""
        for name in given:
            if name not in self.schema.model_fields:
                raise unknown(f"option of {method}", str(name), [*self.names(), "where"])
        try:
            return self.schema(**given).model_dump()
        except ValidationError as error:
            found = error.errors()
            option = found[0]["loc"][0]
            # one for each kind that it may be of
            told = dict.fromkeys(e["msg"].removeprefix("Value error, ") for e in found if e["loc"][0] == option)
            message = ", or ".join(told).replace("Input should", "should").replace(", or should be", ", or")
            raise ValueError(f"{method}: {option}={given.get(str(option))!r}: {message}") from None

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Filled options as the keyword arguments of the function, each group as one."""
        grouped = {name for group in self.groups.values() for name in group.schema.model_fields}
        rest = {name: value for name, value in options.items() if name not in grouped}
        return rest | {name: group.build(options) for name, group in self.groups.items()}

    def rows(self) -> list[dict[str, str]]:
        """One row an option for a person to read: name, type, default, text."""
        schema = self.schema.model_json_schema()["properties"]
        return [
            {
                "option": name,
                "type": _type_text(schema[name]),
                "default": "required" if field.is_required() else str(field.default),
                "text": field.description or "",
            }
            for name, field in self.schema.model_fields.items()
        ]


class _NoGroup(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _defaults(schema: type[BaseModel], given: BaseModel | None = None) -> dict[str, Any]:
    """The fields of a group whose defaults a method sets otherwise, as Annotated[Losses, Losses(logits=1)]."""
    changed: dict[str, Any] = {}
    for name in given.model_fields_set if given else ():
        field = copy(schema.model_fields[name])
        field.default = getattr(given, name)
        changed[name] = (field.annotation, field)
    return changed


def frontend_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Filled options as they hold for a frontend: it has few weights, and coarse ones cost most."""
    if options["frontend_bits"] is None:
        return dict(options)
    groups = "channel" if isinstance(options["group_size"], int) else options["group_size"]
    return {**options, "bits": max(options["bits"], options["frontend_bits"]), "group_size": groups}


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of an option such as "float16"."""
    return SCALE_DTYPES[name]


def _type_text(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_type_text(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    return " ".join([str(schema.get("const", schema.get("type", "any"))), ", ".join(bounds)]).strip()
