"""The one table of the parts of which a weight may be stored. A part is one file and one line here."""

from sottovoce.weights.description import Description
from sottovoce.weights.part import WeightPart
from sottovoce.weights.part_factor_mask import FACTOR_MASK
from sottovoce.weights.part_floats import FLOATS
from sottovoce.weights.part_grid import GRID
from sottovoce.weights.part_low_rank import LOW_RANK
from sottovoce.weights.part_mask import MASK
from sottovoce.weights.part_outliers import OUTLIERS
from sottovoce.weights.part_palette import PALETTE
from sottovoce.weights.part_wrappers import WRAPPERS

# in the order in which a person is told of them
PARTS = (FLOATS, GRID, PALETTE, OUTLIERS, MASK, WRAPPERS, LOW_RANK, FACTOR_MASK)


def held(entry: Description) -> list[WeightPart]:
    """The parts that a layer has."""
    return [part for part in PARTS if part.held(entry)]
