"""Round to nearest: each weight takes the closest level of its group's range.

Nagel et al., "A White Paper on Neural Network Quantization", 2021, arXiv:2106.08295, section 2: uniform
quantization, the baseline that every other quantizer must beat. A symmetric grid spans the largest magnitude of
its group, an asymmetric one the smallest to the largest weight, zero included; no data. With `clip` it spans
less where that is better: for the weights ("mse", as GPTQ and LLMC search), or for what the layer puts out
("output": Lin et al., "AWQ", 2023, arXiv:2306.00978, whose clipping this is, in closed form by the Gram matrix).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.numbers.clipping import Fit, fit_by_output, fit_by_weights
from sottovoce.numbers.grid import Grid, fit_scale, round_to_grid
from sottovoce.weights.weight import Layer, Weight

Clip = Annotated[
    Literal["none", "mse", "output"],
    Field(description="clip each group's range to the least error of the weights (mse) or of the layer's output"),
]


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({"gram"}) if options["clip"] == "output" else frozenset()


@method(scope="layer", owns="base", needs=_needs)
def rtn(layer: Layer, stats: InputStats, *, grid: Grid, clip: Clip = "none") -> Weight:
    """Round what the base should imitate; dropped weights count as zero, which is on every grid."""
    fit: Fit = fit_scale
    if clip == "mse":
        fit = fit_by_weights
    elif clip == "output":
        assert stats.gram is not None
        fit = fit_by_output(stats.gram)
    return layer.with_base(round_to_grid(layer.kept_target(), grid, fit))
