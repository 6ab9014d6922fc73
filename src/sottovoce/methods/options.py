"""A method's options, read from its signature: names, types, ranges, defaults, one line of text each.

An option is a keyword-only parameter annotated as `Annotated[type, Field(..., description=...)]`. A
parameter `grid: Grid` stands for the grid's own fields, so that a recipe writes `bits: 3` and the
method receives a Grid.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from sottovoce.nearest import unknown
from sottovoce.numbers.grid import SCALE_DTYPES, Grid


def _sparsity(value: object) -> object:
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
        raise ValueError("must be a share between 0 and 1, as 0.5, or n:m, as 2:4")
    return number


Sparsity = Annotated[
    float | str,
    BeforeValidator(_sparsity),
    Field(description="the share of weights dropped, or n:m to keep n of each m neighbouring inputs (2:4)"),
]
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
        True, description="levels around zero (-7..7 at 4 bits); false: a zero point for each group"
    )
    scale_dtype: Literal["float16", "bfloat16", "float32"] = Field(
        "float16", description="the dtype in which scales are stored"
    )


GRID_OPTIONS = tuple(GridOptions.model_fields)


@dataclass(frozen=True)
class OptionTable:
    """The options of one method."""

    schema: type[BaseModel]
    takes_grid: bool

    @staticmethod
    def of(function: Callable[..., Any]) -> "OptionTable":
        """Read the keyword-only parameters of `function`."""
        fields: dict[str, Any] = {}
        takes_grid = False
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                continue
            if parameter.annotation is Grid:
                takes_grid = True
                continue
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (parameter.annotation, default)
        base = GridOptions if takes_grid else _NoGrid
        return OptionTable(create_model(function.__name__, __base__=base, **fields), takes_grid)

    def names(self) -> list[str]:
        """The names that a recipe may set."""
        return list(self.schema.model_fields)

    def fill(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` with defaults filled in. Raises ValueError for an unknown option or a value out of range."""
        for name in given:
            if name not in self.schema.model_fields:
                raise unknown(f"option of {method}", str(name), [*self.names(), "where"])
        try:
            return self.schema(**given).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            option = str(first["loc"][0])
            message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
            raise ValueError(f"{method}: {option}={given.get(option)!r}: {message}") from None

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Filled options as the keyword arguments of the function: the grid's fields become one Grid."""
        rest = {name: value for name, value in options.items() if not (self.takes_grid and name in GRID_OPTIONS)}
        if self.takes_grid:
            rest["grid"] = grid_of(options)
        return rest

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


class _NoGrid(BaseModel):
    model_config = ConfigDict(extra="forbid")


def grid_of(options: Mapping[str, Any]) -> Grid:
    """The Grid that filled options describe."""
    return Grid(options["bits"], options["group_size"], options["symmetric"], SCALE_DTYPES[options["scale_dtype"]])


def grid_as_options(grid: Grid) -> dict[str, Any]:
    """The inverse of `grid_of`: JSON-able options."""
    dtype = {value: name for name, value in SCALE_DTYPES.items()}[grid.scale_dtype]
    return {
        "bits": grid.bits,
        "group_size": grid.group_size,
        "symmetric": grid.symmetric,
        "scale_dtype": dtype,
    }


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
