"""SLiM's quantized adapters: the factors of a low-rank term become integers too.

Mozaffari, Yazdanbakhsh, Dehnavi, "SLiM: One-shot Quantization and Sparsity with Low-rank Approximation for LLM Weight
Compression", 2024, arXiv:2410.09615, section 3.3: round to nearest under the largest magnitude of a group, 4 bits. Here
a group lies within one direction, whose values are of one size; the official code's tiles of 256 x 256 hold several
directions, and the small ones vanish beside the large. It follows whatever made the factors: low_rank, lora, liteasr.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.numbers.grid import Grid, check_groups
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.weight import Layer, LayerShape, Weight


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    size = options["group_size"]
    if size == "tensor":
        return "quantize_lora: directions differ too much in size to share a scale; group_size: channel would work"
    try:
        check_groups(size, shape.rows, f"the left factor of {shape.name}")
    except ValueError as error:
        return str(error)
    return None


def _words(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    size = options["group_size"]
    return {"low_rank": f"{options['bits']}-bit {f'g{size}' if isinstance(size, int) else size}"}


@method(scope="layer", owns="factors", refuse=_refuse, words=_words)
def quantize_lora(layer: Layer, stats: InputStats, *, grid: Grid) -> Weight:
    """Round the factors that there are; a layer that an earlier step left without any stays as it is."""
    if layer.weight.low_rank is None:
        return layer.weight
    return replace(layer.weight, low_rank=CodedFactors.nearest(*layer.weight.factors(), grid))
