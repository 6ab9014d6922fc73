"""SparseGPT: drop weights one input column at a time and let the columns ahead make up for them.

Frantar, Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", 2023, arXiv:2301.00774,
algorithm 1; github.com/IST-DASLab/sparsegpt. The mask is chosen when a block of columns (for n:m, a group of m) is
reached, of the weights as updated by then: those go whose loss w^2 / [H^-1]_cc is smallest (eq. 3, of the optimal
brain surgeon). The columns ahead then move by the least-squares answer to what was dropped, measured by the Gram
matrix of the layer's inputs. `sparsegpt` leaves floats, which a later rounding takes as they are by then;
`sparsegpt_joint` rounds each column in the same sweep (section 3.5), so that the columns ahead make up for both.

Unlike the authors' code on purpose: exactly the asked share is dropped (theirs drops one more in each block), and the
weights of a dead input go first, but not all of them. In the joint sweep they keep the scales of the dense row; here
those of a group are fitted when it is reached, to what is kept as far as that is known.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import Sparsity
from sottovoce.methods.sparsity import group_of, keep, refuse_n_of_m, sparsity_of
from sottovoce.methods.words import dropped, quantized
from sottovoce.numbers.columns import settle_columns
from sottovoce.numbers.grid import Grid, Quantized
from sottovoce.numbers.grid_columns import GridColumns
from sottovoce.numbers.linalg import inverse_factor
from sottovoce.weights.weight import Layer, Weight

OverBlock = Annotated[
    Literal["row", "layer"],
    Field(description="what is compared when sparsity is a share: a block of columns in each row, or in all rows"),
]
Damp = Annotated[float, Field(gt=0, le=100, description="share of the mean diagonal added to the Gram matrix")]
TiedDamp = Annotated[
    float,
    Field(
        gt=0, le=100, description="the same for a tied embedding, because the head's Gram matrix ignores its look-up"
    ),
]
BlockSize = Annotated[
    int,
    Field(ge=1, description="columns whose mask is chosen together when sparsity is a share, and per lazy update"),
]


@method(
    scope="layer",
    owns=("mask", "values"),
    writes=lambda options: ("mask",),
    needs=frozenset({"gram"}),
    refuse=refuse_n_of_m,
)
def sparsegpt(
    layer: Layer,
    stats: InputStats,
    *,
    sparsity: Sparsity = 0.5,
    over: OverBlock = "layer",
    damp: Damp = 0.01,
    tied_damp: TiedDamp = 1.0,
    block_size: BlockSize = 128,
) -> Weight:
    """Drop weights, and update those that stay."""
    assert isinstance(layer.weight.base, Tensor)  # the recipe checker has it come before any rounding
    factor, dead = _factor(layer, stats, damp, tied_damp)
    share = sparsity_of(layer, sparsity)
    values, mask = prune_by_columns(layer.left_for_base(), factor, share, over=over, dead=dead, block_size=block_size)
    assert isinstance(values, Tensor)
    return replace(layer.weight, base=values.to(layer.weight.base.dtype), mask=mask, updated=True)


@method(
    scope="layer",
    owns=("base", "mask"),
    needs=frozenset({"gram"}),
    refuse=refuse_n_of_m,
    words=lambda name, options: {**quantized(name, options), **dropped(name, options)},
)
def sparsegpt_joint(
    layer: Layer,
    stats: InputStats,
    *,
    sparsity: Sparsity = 0.5,
    grid: Grid,
    over: OverBlock = "layer",
    damp: Damp = 0.01,
    tied_damp: TiedDamp = 1.0,
    block_size: BlockSize = 128,
) -> Weight:
    """Drop weights and round those that stay, in one sweep."""
    factor, dead = _factor(layer, stats, damp, tied_damp)
    share = sparsity_of(layer, sparsity)
    base, mask = prune_by_columns(
        layer.left_for_base(), factor, share, grid, over=over, dead=dead, block_size=block_size
    )
    return replace(layer.with_base(base), mask=mask)


def _factor(layer: Layer, stats: InputStats, damp: float, tied_damp: float) -> tuple[Tensor, Tensor]:
    """The upper inverse factor (in, in) of the Gram matrix, and which inputs (in,) are always 0."""
    assert stats.gram is not None
    factor = inverse_factor(stats.gram / stats.count, tied_damp if layer.kind == "embedding" else damp)
    return factor, stats.gram.diagonal() == 0


def prune_by_columns(
    w: Tensor,
    factor: Tensor,
    sparsity: float | str,
    grid: Grid | None = None,
    *,
    over: str = "layer",
    dead: Tensor | None = None,
    block_size: int = 128,
) -> tuple[Tensor | Quantized, Tensor]:
    """Algorithm 1 of the paper over the columns of `w` (out, in); the base, floats or on a grid, and the mask.

    factor  (in, in) upper inverse factor of the Gram matrix
    dead    (in,) bool: inputs that are always 0
    """
    inputs = w.T.contiguous()  # (in, out): what is read one by one lies together
    kept, values = torch.ones_like(inputs, dtype=torch.bool), torch.empty_like(inputs)
    root = factor.diagonal()[:, None]  # squared [H^-1]_cc, the columns before c settled
    size = group_of(sparsity) or block_size

    def choose(i: int, ahead: Tensor) -> None:
        loss = (ahead / root[i : i + size]).square()
        if dead is not None:
            loss[dead[i : i + size]] = 0
        kept[i : i + size] = keep(loss.T, sparsity, over).T

    def settle(i: int, column: Tensor) -> Tensor:
        values[i] = column.masked_fill(~kept[i], 0.0)
        return values[i]

    if grid is None:
        settle_columns(inputs, factor, settle, block_size=block_size, reaches=[(size, choose)])
        return values.T.contiguous(), kept.T.contiguous()
    columns = GridColumns(w, grid, torch.arange(len(inputs), device=w.device), kept)
    settle_columns(inputs, factor, columns.settle, block_size=block_size, reaches=[(size, choose), *columns.reaches])
    return columns.quantized(), kept.T.contiguous()
