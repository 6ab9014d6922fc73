"""Single values that stand in the place of the base's own; a mask drops them as it drops a code."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sottovoce.numbers.sparse import Sparse
from sottovoce.weights.description import Description
from sottovoce.weights.part import DTYPE_NAMES, Tensors, WeightPart
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight


def _kept(weight: Weight) -> Sparse | None:
    return None if weight.outliers is None else weight.outliers.under(weight.mask)


def _describe(weight: Weight) -> Mapping[str, Any]:
    found = _kept(weight)
    return {} if found is None else {"outliers": len(found), "outlier_dtype": DTYPE_NAMES[found.values.dtype]}


def _specs(entry: Description) -> list[Part]:
    assert entry.outliers is not None
    assert entry.outlier_dtype is not None
    counts: Part = ("outlier_counts", "uint16", (entry.rows,))
    return [
        counts,
        ("outlier_columns", "uint16", (entry.outliers,)),
        ("outlier_values", entry.outlier_dtype, (entry.outliers,)),
    ]


def _pack(weight: Weight, entry: Description) -> Tensors:
    found = _kept(weight)
    assert found is not None
    return {
        "outlier_counts": found.counts.to(torch.uint16),
        "outlier_columns": found.columns.to(torch.uint16),
        "outlier_values": found.values,
    }


def _unpack(entry: Description, tensors: Mapping[str, Tensor], mask: Tensor | None) -> Sparse:
    counts, columns = tensors["outlier_counts"].long(), tensors["outlier_columns"].long()
    found = Sparse(counts, columns, tensors["outlier_values"], entry.columns)
    if int(counts.sum()) != entry.outliers:
        raise ValueError(f"{entry.tensor}.outlier_counts counts {int(counts.sum())}; the table says {entry.outliers}")
    places = found.rows * entry.columns + columns
    if bool((columns >= entry.columns).any()) or bool((places.diff() <= 0).any()):
        raise ValueError(f"{entry.tensor}.outlier_columns does not rise within each row up to {entry.columns - 1}")
    if mask is not None and not bool(mask[found.rows, columns].all()):
        raise ValueError(f"{entry.tensor}.outlier_columns names weights that the mask drops")
    return found


OUTLIERS = WeightPart(
    "outliers",
    "outliers",
    "base",
    _describe,
    lambda entry: entry.outliers is not None,
    _specs,
    _pack,
    _unpack,
    lambda entry: f"outliers {100 * (entry.outliers or 0) / entry.weights:.1f} %",
    "outliers (spqr, palettize) cannot be written beside integers",
)
