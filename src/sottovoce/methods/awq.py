"""AWQ: scale up the inputs that carry large activations before rounding, by a search for the least output error.

Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han, "AWQ: Activation-aware Weight Quantization for LLM
Compression and Acceleration", 2023, arXiv:2306.00978, section 3.2: s = mean|x|^a for each channel, with the a
of 0, 1/20, ..., 19/20 after which round-to-nearest leaves the least error of what the readers put out. Here that
error is measured by the Gram matrix of their inputs, without running them; the official code runs the whole
attention instead for its three projections. `form: ratio` is s = mean|x|^a / mean|w|^(1 - a), w relative to the
largest of its group (LLMC's first version, and Edge-ASR's). The division goes into the norm or the layer that
writes the activation; a quantizer, such as rtn with clip: output, comes after.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.blocks.basis import Block
from sottovoce.methods import method
from sottovoce.numbers.grid import Grid, round_to_grid

Form = Annotated[
    Literal["activations", "ratio"],
    Field(description="what scales a channel: its activations alone, or over the weights that read it"),
]


@method(scope="block", owns="basis", needs=frozenset({"gram", "absolute"}))
def awq(
    block: Block,
    *,
    grid: Grid,
    form: Form = "activations",
    steps: Annotated[int, Field(ge=1, le=1000, description="exponents tried, evenly from 0 to below 1")] = 20,
) -> None:
    """Scale every site whose writer can absorb it, for rounding on this grid."""
    for site in block.sites:
        if site.writer is None:
            continue
        stats = block.stats[site.name]
        assert stats.gram is not None
        assert stats.absolute is not None
        weights = [block.layers[name].target for name in site.readers]
        s = best_scale(weights, stats.gram / stats.count, stats.absolute / stats.count, grid, form, steps)
        if bool((s != 1).any()):
            block.rescale(site, s)


def best_scale(
    weights: Sequence[Tensor], gram: Tensor, activations: Tensor, grid: Grid, form: str, steps: int
) -> Tensor:
    """The s (in,) under which rounding `weights`, (out, in) each, on `grid` leaves the least output error.

    gram         (in, in) mean of x x^T
    activations  (in,) mean of |x|
    """
    best = torch.ones_like(activations)
    least = output_error(weights, best, gram, grid)
    for step in range(steps):
        s = _scale(weights, activations, step / steps, grid, form)
        error = output_error(weights, s, gram, grid)
        if error < least:
            best, least = s, error
    return best


def output_error(weights: Sequence[Tensor], s: Tensor, gram: Tensor, grid: Grid) -> float:
    """Mean squared error of all outputs when w * s is rounded and x divided by s."""
    total = 0.0
    for w in weights:
        difference = round_to_grid(w * s, grid).dense() / s - w
        total += float((difference @ gram * difference).sum())
    return total


def _scale(weights: Sequence[Tensor], activations: Tensor, exponent: float, grid: Grid, form: str) -> Tensor:
    s = activations.pow(exponent)
    if form == "ratio":
        s = s / _relative(weights, grid).clamp(min=1e-4).pow(1 - exponent)
    s = s.clamp(min=1e-4)
    s = s / (s.max() * s.min()).sqrt()
    # a channel that never fires has nothing to be weighed by
    return torch.where(activations > 0, s, 1.0)


def _relative(weights: Sequence[Tensor], grid: Grid) -> Tensor:
    """(in,): mean over outputs of |w| over the largest of its group."""
    parts = []
    for w in weights:
        groups = grid.grouped(w).abs()
        parts.append((groups / groups.amax(-1, keepdim=True).clamp(min=1e-12)).reshape(w.shape))
    return torch.cat(parts).mean(0)
