"""LLM.int8(): 8-bit weights and activations, with the activations' outliers multiplied as floats.

Dettmers, Lewis, Belkada, Zettlemoyer, "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", 2022,
arXiv:2208.07339, sections 3.1 and 3.2. A scale for each output row of the weight and for each vector of the
activation; a value of at least `threshold` is left out of both its vector's scale and the integer product, and
meets the dequantized weight in a second one. No calibration.

The paper and bitsandbytes keep a whole input channel in floats as soon as one vector of the batch has an outlier
there, so what else is in the batch changes a result. Here each vector decides for itself, which is what bitsandbytes
does with a batch of one vector. bitsandbytes' module has the threshold 0 (no outliers) by default; 6 is the paper's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.methods.options import FactorDtype, dtype_of
from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.numbers.rounding import Rounding
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Layer, LayerShape, Weight

_BITS = 8


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if shape.kind == "conv":
        return f"llm_int8 multiplies tokens, and {shape.name} is a convolution; rtn with activations would work there"
    return None


def _words(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    return {"quantization": name, "activations": f"int8 per token, from {options['threshold']:g} float"}


@method(scope="layer", owns=("base", "input"), refuse=_refuse, where=("blocks",), words=_words)
def llm_int8(
    layer: Layer,
    stats: InputStats,
    *,
    threshold: Annotated[
        float, Field(gt=0, description="the magnitude from which a value is an outlier and stays a float")
    ] = 6.0,
    dtype: FactorDtype = "float16",
) -> tuple[Weight, InputPath]:
    """Round the base to nearest with a scale for each row, and what it reads with one for each vector."""
    grid = Grid(_BITS, "channel", symmetric=True, scale_dtype=dtype_of(dtype))
    rounding = Rounding(_BITS, "token", symmetric=True, threshold=threshold)
    return layer.with_base(round_to_grid(layer.kept_target(), grid)), replace(layer.input, rounding=rounding)
