"""Low rank: two thin factors that carry what the mask and the rounding left over.

With metric "diagonal" this is SLiM-LoRA (Mozaffari, Yazdanbakhsh, Dehnavi, "SLiM: One-shot
Quantization and Sparsity with Low-rank Approximation for LLM Weight Compression", 2024,
arXiv:2410.09615): the error's columns are weighed by the root mean square of their input before the
SVD. "gram" weighs by the whole Gram matrix, which is optimal for the layer's output; "plain" by
nothing. With `replace` the factors are the weight, and no base stays.
"""

from collections.abc import Mapping
from dataclasses import replace as with_parts
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import Mark, method
from sottovoce.methods.options import FactorDtype, dtype_of
from sottovoce.numbers.linalg import truncated_svd
from sottovoce.weights.weight import Layer, LayerShape, Weight

_NEEDS = {"gram": frozenset({"gram"}), "diagonal": frozenset({"square"}), "plain": frozenset[str]()}


def needs_of_metric(options: Mapping[str, Any]) -> frozenset[str]:
    """What its `metric` looks at."""
    return _NEEDS[options["metric"]]


def weighing_of(stats: InputStats, metric: str) -> Tensor | None:
    """The mean Gram matrix (in, in), its diagonal (in,), or None for "plain"."""
    sums = {"gram": stats.gram, "diagonal": stats.square, "plain": None}[metric]
    return None if sums is None else sums / stats.count


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    rank, most = resolved_rank(options["rank"], shape.rows, shape.columns), min(shape.rows, shape.columns)
    if not 0 < rank < most:
        size = f"{shape.name} ({shape.rows} x {shape.columns})"
        return f"low_rank: rank={options['rank']:g} is {rank} for {size}; 1 to {most - 1} would work"
    if options["rank"] >= 1 and options["rank"] != rank:
        return f"low_rank: rank={options['rank']:g} is neither a whole number nor a share below 1; {rank} would work"
    return None


def resolved_rank(rank: float, rows: int, columns: int) -> int:
    """A whole number as it is; a share below 1 of the smaller side, rounded down."""
    return int(rank * min(rows, columns)) if rank < 1 else int(rank)


def _writes(options: Mapping[str, Any]) -> tuple[Mark, ...]:
    return ("base", "mask", "low_rank") if options["replace"] else ("low_rank",)


@method(
    scope="layer",
    owns="low_rank",
    needs=needs_of_metric,
    refuse=_refuse,
    writes=_writes,
    words=lambda name, options: {"low_rank": f"{options['metric']} r={options['rank']:g}"},
)
def low_rank(
    layer: Layer,
    stats: InputStats,
    *,
    rank: Annotated[
        float, Field(gt=0, description="columns of the factors: a number, or a share of the smaller side")
    ] = 0.1,
    metric: Annotated[
        Literal["gram", "diagonal", "plain"], Field(description="metric of the error: how inputs are weighted")
    ] = "gram",
    replace: Annotated[bool, Field(description="replace the whole weight by the factors, without a base")] = False,
    dtype: FactorDtype = "float16",
) -> Weight:
    """Fit the factors to what the rest leaves over, or to the whole target."""
    target = layer.target if replace else layer.left_for_low_rank()
    left, right = truncated_svd(target, resolved_rank(rank, *target.shape), weighing_of(stats, metric))
    factors = (left.to(dtype_of(dtype)), right.to(dtype_of(dtype)))
    return Weight(None, None, factors) if replace else with_parts(layer.weight, low_rank=factors)
