"""SLiM-Quant: one scale for a whole layer, at the range where rounding and clipping together cost least.

Mozaffari, Yazdanbakhsh, Dehnavi, "SLiM: One-shot Quantization and Sparsity with Low-rank Approximation", 2024,
arXiv:2410.09615, section 3.1. The error of each range is computed from a histogram of the weights' magnitudes,
coarsely over all ranges, then finely around the best. Symmetric. One scale suits a runtime that has no room for
more, and leaves to a low-rank correction what it costs. No data.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import GridOptions
from sottovoce.numbers.grid import Grid, Quantized, stored_scale, to_codes
from sottovoce.weights.weight import Layer, LayerShape, Weight

FEWEST_BINS, MOST_BINS, WEIGHTS_A_BIN = 4096, 20_000, 1000  # at 8 bits 512 are too coarse
COARSE = 64  # ranges tried before the fine search


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if options["group_size"] != "tensor" or not options["symmetric"]:
        found = f"group_size={options['group_size']}, symmetric={options['symmetric']}"
        return f"slim_quant has one symmetric scale for a layer, found {found}; group_size: tensor would work"
    return None


@method(scope="layer", owns="base", refuse=_refuse)
def slim_quant(layer: Layer, stats: InputStats, *, grid: Annotated[Grid, GridOptions(group_size="tensor")]) -> Weight:
    """Round what the base should imitate; dropped weights have no say in the range."""
    target, mask = layer.kept_target(), layer.weight.mask
    cap = best_cap(target if mask is None else target[mask], grid.bits)
    scale = stored_scale(torch.full((1, 1), cap / (grid.middle - 1), device=target.device), grid.scale_dtype)
    return layer.with_base(Quantized(to_codes(target, scale, None, grid), scale, None, grid))


def best_cap(weights: Tensor, bits: int) -> float:
    """The magnitude at which the largest level of a symmetric grid should lie; 0 for weights that are all 0."""
    magnitudes = weights.abs().flatten().cpu()
    if not magnitudes.numel() or float(magnitudes.max()) == 0:
        return 0.0
    bins = max(FEWEST_BINS, min(magnitudes.numel() // WEIGHTS_A_BIN, MOST_BINS))
    counts, edges = torch.histogram(magnitudes, bins=bins)
    centres, caps = (edges[:-1] + edges[1:]) / 2, edges[1:]
    stride = max(1, bins // COARSE)
    coarse = torch.arange(stride - 1, bins, stride)
    near = int(coarse[expected_errors(counts, centres, caps[coarse], bits).argmin()])
    fine = caps[max(0, near - stride) : near + stride + 1]
    return float(fine[expected_errors(counts, centres, fine, bits).argmin()])


def expected_errors(counts: Tensor, centres: Tensor, caps: Tensor, bits: int) -> Tensor:
    """(caps,): the squared error of a histogram's weights for each range."""
    most = 2 ** (bits - 1) - 1
    step = caps[:, None] / most
    levels = (centres / step).round().clamp(max=most)
    return ((levels * step - centres).square() * counts).sum(1)
