"""Outlier-decomposed palettization: a table of a few values for a layer, and what is far from the rest kept as it is.

Durmus, Okan, Pacheco, Nagengast, Orhon, "WhisperKit: On-device Real-time ASR with Billion-Scale Transformers", 2025,
arXiv:2507.10860 (OD-MBP): weights within three standard deviations become the nearest of 2^bits values that k-means
finds, those beyond, about one in a hundred, stay beside them as sparse floats. Bits may differ from layer to layer:
give a step for each, with its own `where`. With `weigh_inputs` an input's error counts by its mean square in the
calibration data. Only kept weights have a say. No data unless inputs are weighed.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import FactorDtype, dtype_of
from sottovoce.numbers.palette import Palettized, k_means, nearest_entry
from sottovoce.numbers.sparse import Sparse, stored_values
from sottovoce.weights.weight import Layer, Weight


@method(
    scope="layer",
    owns="base",
    needs=lambda options: frozenset({"square"}) if options["weigh_inputs"] else frozenset(),
)
def palettize(
    layer: Layer,
    stats: InputStats,
    *,
    bits: Annotated[int, Field(ge=1, le=8, description="bits of an index into the layer's table of 2^bits values")] = 4,
    sigma: Annotated[
        Annotated[float, Field(gt=0)] | Literal["none"],
        Field(description="standard deviations beyond which a weight stays a float; none: no outliers"),
    ] = 3.0,
    weigh_inputs: Annotated[bool, Field(description="weigh each input's error by its mean square")] = False,
    dtype: FactorDtype = "float16",
) -> Weight:
    """Put what the base should imitate into a table and outliers."""
    target, kept = layer.kept_target(), layer.weight.mask
    kept = torch.ones_like(target, dtype=torch.bool) if kept is None else kept
    importance = None
    if weigh_inputs:
        assert stats.square is not None
        importance = (stats.square / stats.count).expand_as(target)
    far = torch.zeros_like(kept) if sigma == "none" else beyond(target, kept, sigma)
    return layer.with_base(*palettized(target, kept, far, bits, importance, dtype_of(dtype)))


def beyond(w: Tensor, kept: Tensor, sigma: float) -> Tensor:
    """(out, in) bool: the `kept` weights more than `sigma` standard deviations from the mean of all that are kept."""
    values = w[kept].double()
    if not len(values):
        return torch.zeros_like(kept)
    distance = (w.double() - values.mean()).abs()
    return kept & (distance > sigma * distance[kept].square().mean().sqrt())


def palettized(
    w: Tensor, kept: Tensor, far: Tensor, bits: int, importance: Tensor | None, dtype: torch.dtype
) -> tuple[Palettized, Sparse | None]:
    """`w` (out, in) in a table of 2^bits values of `dtype`, and its weights `far` (out, in) bool as outliers.

    kept and importance (out, in): which weights have a say in the table, and how much. Raises ValueError for
    a weight that `dtype` cannot hold.
    """
    near = kept & ~far
    centres = k_means(w[near], 2**bits, None if importance is None else importance[near])
    table = stored_values(centres, dtype)
    outliers = Sparse.at(far, w, dtype)
    whole = w if outliers is None else outliers.over(w)
    return Palettized(nearest_entry(whole, table), table), outliers
