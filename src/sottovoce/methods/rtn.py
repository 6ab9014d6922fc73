"""Round to nearest: each weight takes the closest level of its group's range.

The baseline that every other quantizer must beat. A symmetric grid spans the largest magnitude of
its group, an asymmetric one the smallest to the largest weight, zero included. No data.
"""

from sottovoce.methods import method
from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.stats import InputStats
from sottovoce.weight import Layer, Weight


@method(scope="layer", owns="base")
def rtn(layer: Layer, stats: InputStats, *, grid: Grid) -> Weight:
    """Round what the base should imitate; dropped weights count as zero, which is on every grid."""
    return layer.with_base(round_to_grid(layer.kept_target(), grid))
