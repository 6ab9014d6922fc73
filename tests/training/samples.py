"""Layers to train: every kind of base, with and without a mask and factors."""

import torch

from sottovoce.numbers.grid import Grid, Quantized, round_to_grid
from sottovoce.numbers.palette import Palettized, k_means, nearest_entry
from sottovoce.numbers.scales import RoundedScales, round_scales
from sottovoce.numbers.sparse import Sparse
from sottovoce.weights.weight import Layer, Weight
from tests.methods.samples import noise, some_weights

ROWS, COLUMNS = 5, 24
GRIDS = {
    "4 bits": Grid(4),
    "3 bits in groups": Grid(3, 8, symmetric=False),
    "2 bits, one scale": Grid(2, "tensor", symmetric=False, scale_dtype=torch.float32),
    "5 bits, bfloat16 scales": Grid(5, 6, scale_dtype=torch.bfloat16),
    "8 bits, one scale": Grid(8, "tensor"),
    "fractional zero": Grid(3, 12, symmetric=False),
}
SECOND = "3 bits, rounded scales"
PALETTE = "a table"
BASES = ("float32", "float16", *GRIDS, SECOND, PALETTE)


def base_of(kind, w):
    """`w` as a base of that kind."""
    if kind == PALETTE:
        table = k_means(w.flatten(), 8).half()
        return Palettized(nearest_entry(w, table), table)
    if kind == SECOND:
        plain = round_to_grid(w, Grid(3, 8, symmetric=False))
        scale, zero = (round_scales(part, 3, 2, torch.float16) for part in (plain.scales(), plain.zeros()))
        return Quantized(plain.codes, scale, zero, plain.grid).like(w)
    if kind not in GRIDS:
        return w.to(getattr(torch, kind))
    base = round_to_grid(w, GRIDS[kind])
    if kind == "fractional zero":
        shift = (noise(*base.scale.shape, seed=8) / 3).to(base.scale.dtype)
        return Quantized(base.codes, base.scale, base.zero_point.to(base.scale.dtype) + shift, base.grid)
    return base


def some_layer(kind, mask=False, factors=False, name="encoder.layers.0.fc1", outliers=False):
    """A layer of that kind of base; None for a base that its factors replaced."""
    w = some_weights(ROWS, COLUMNS)
    far = Sparse.at(noise(ROWS, COLUMNS, seed=6) > 1.3, 3 * w, torch.float16) if outliers else None
    kept = noise(ROWS, COLUMNS, seed=3) > -0.3 if mask else None
    low_rank = (noise(ROWS, 2, seed=4).half(), noise(2, COLUMNS, seed=5).half()) if factors else None
    base = None if kind is None else base_of(kind, w if far is None else far.over(w))
    weight = Weight(base, kept, low_rank, far)
    return Layer(name, "linear", weight, weight.dense())


def parts_of(weight):
    """Every tensor of a weight by name."""
    base, factors = weight.base, weight.low_rank or (None, None)
    parts = {"mask": weight.mask, "left": factors[0], "right": factors[1]}
    if isinstance(base, Quantized):
        parts |= {"codes": base.codes, "scale": base.scale, "zero": base.zero_point}
        parts = {name: part.dense() if isinstance(part, RoundedScales) else part for name, part in parts.items()}
    elif isinstance(base, Palettized):
        parts |= {"codes": base.codes, "table": base.table}
    else:
        parts["base"] = base
    if weight.outliers is not None:
        parts |= {"columns": weight.outliers.columns, "outliers": weight.outliers.values}
    return {name: part.clone() for name, part in parts.items() if part is not None}


def assert_same_parts(found, expected):
    """Bitwise, dtypes too."""
    assert set(found) == set(expected)
    for name, part in found.items():
        assert part.dtype == expected[name].dtype, name
        assert torch.equal(part, expected[name]), name
