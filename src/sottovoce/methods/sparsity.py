"""What a pruner's `sparsity` and `over` ask for: n of each m neighbours, or a share of each row or of the layer.

The share may be the recipe's number, or that which a step before gave to each layer (`sparsity: allocated`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from sottovoce.methods.options import ALLOCATED
from sottovoce.numbers.sparsity import keep_fraction, keep_n_of_m
from sottovoce.weights.weight import Layer, LayerShape

LARGEST_GROUP = 64  # that is worth a try where another does not divide
Over = Annotated[Literal["row", "layer"], Field(description="what is compared when sparsity is a share")]


def refuse_n_of_m(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    """Why n:m cannot work on a layer: m does not divide its inputs."""
    m, columns = group_of(options["sparsity"]), shape.columns
    if not m or columns % m == 0:
        return None
    n, _ = n_and_m(options["sparsity"])
    fits = [other for other in range(n + 1, min(columns, LARGEST_GROUP) + 1) if columns % other == 0]
    near = [max((other for other in fits if other < m), default=None), min((o for o in fits if o > m), default=None)]
    told = " and ".join(f"{n}:{other}" for other in near if other)
    return (
        f"sparsity {options['sparsity']} needs a multiple of {m} inputs, and {shape.name} has {columns}; "
        f"{told or 'a share, as 0.5,'} would work, or exclude it with where"
    )


def group_of(sparsity: float | str) -> int | None:
    """The m of n:m; None for a share."""
    return n_and_m(sparsity)[1] if isinstance(sparsity, str) and ":" in sparsity else None


def n_and_m(sparsity: str) -> tuple[int, int]:
    """How many of how many neighbouring inputs n:m keeps."""
    n, _, m = sparsity.partition(":")
    return int(n), int(m)


def sparsity_of(layer: Layer, sparsity: float | str) -> float | str:
    """`sparsity` as it holds for a layer: the share that it was given, if that is what the recipe says.

    Raises ValueError if it was given none.
    """
    if sparsity != ALLOCATED:
        return sparsity
    if layer.sparsity is None:
        raise ValueError(f"no step before gave {layer.name} a sparsity; put owl before it, or write a share")
    return layer.sparsity


def keep(score: Tensor, sparsity: float | str, over: str = "row") -> Tensor:
    """The mask that a `sparsity` asks for: a share of each row or of the whole of `score` (rows, columns), or n:m."""
    if isinstance(sparsity, str):
        return keep_n_of_m(score, *n_and_m(sparsity))
    if over == "layer":
        return keep_fraction(score.reshape(1, -1), sparsity).reshape(score.shape)
    return keep_fraction(score, sparsity)
