"""One kind of tensors of which a weight is stored: all that artifact, cost model and exporters ask of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sottovoce.numbers.grid import SCALE_DTYPES
from sottovoce.weights.description import Description
from sottovoce.weights.path_table import Part
from sottovoce.weights.weight import Weight

DTYPE_NAMES = {torch.uint8: "uint8", torch.uint16: "uint16"} | {dtype: name for name, dtype in SCALE_DTYPES.items()}
Tensors = dict[str, Tensor]  # by what follows the weight's name in theirs: "codes", "scale"


@dataclass(frozen=True)
class WeightPart:
    """A kind of tensors that a weight may be stored as, beside others.

    name      as exporters name those that they take
    field     of Weight that it fills
    settles   the part of a weight that a step which wrote it has fixed, as recipes name parts; None for plain floats
    describe  what the table says of a weight that has it; nothing for one that has not
    held      whether a described layer has it
    specs     its tensors, as (suffix, dtype, shape)
    pack      its tensors of a weight
    unpack    the inverse: what fills `field`; given the mask, too, under which codes and values lie close together.
              Raises ValueError, with the tensor's name, for values that no weight has
    words     what a person calls it: "2:4"
    refusal   why an exporter without a place for it cannot hold it
    """

    name: str
    field: Literal["base", "mask", "outliers", "low_rank", "factor_mask", "wrappers"]
    settles: Literal["base", "mask", "low_rank", "factor_mask", "wrappers"] | None
    describe: Callable[[Weight], Mapping[str, Any]]
    held: Callable[[Description], bool]
    specs: Callable[[Description], list[Part]]
    pack: Callable[[Weight, Description], Tensors]
    unpack: Callable[[Description, Mapping[str, Tensor], Tensor | None], Any]
    words: Callable[[Description], str]
    refusal: str
