"""myQASR: mixed precision without labels. The layers that put out the largest values get the fewest bits.

Fish, Michieli, Ozay, "A Model for Every User and Budget: Label-Free and Personalized Mixed-Precision Quantization",
Interspeech 2023, arXiv:2307.12659, algorithm 1. A few unlabelled utterances of the user give each layer's
sensitivity, the median magnitude of what it puts out; one bit after the other is taken away, from the layer of the
largest median to that of the smallest and round again, until the budget is met. So any two layers differ by one bit at
most. The budget here is the mean of bits for each weight, as the recipe's other layers are not this step's to count.
Each layer is then rounded to nearest, its ranges clipped to the least error of the weights; the paper searches
for the scales of least cosine distance of the outputs, and rounds activations to 8 bits (here: `activations`).
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from sottovoce.calibration.medians import output_medians
from sottovoce.methods import method
from sottovoce.methods.options import Spread
from sottovoce.models.base import SpeechModel
from sottovoce.numbers.clipping import fit_by_weights
from sottovoce.numbers.grid import round_to_grid
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer

_MOST = 8


def allocate(medians: Mapping[str, float], sizes: Mapping[str, int], mean_bits: float) -> dict[str, int]:
    """Bits of each layer, within one of each other, at most `mean_bits` for each weight on average (algorithm 1)."""
    bits = dict.fromkeys(medians, _MOST)
    loudest_first = sorted(medians, key=medians.__getitem__, reverse=True)
    budget, total = mean_bits * sum(sizes.values()), _MOST * sum(sizes.values())
    while total > budget:
        for name in loudest_first:
            bits[name] -= 1
            total -= sizes[name]
            if total <= budget:
                break
    return bits


def _words(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    size = options["group_size"]
    spread = f"g{size}" if isinstance(size, int) else size
    return {"quantization": f"{name} {options['mean_bits']:g}-bit {spread}"}


@method(
    scope="model",
    owns="base",
    needs=frozenset({"data"}),
    where=("*", "!~frontend"),
    words=_words,
)
def myqasr(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    mean_bits: Annotated[
        float, Field(ge=2, le=_MOST, description="the most bits for each weight, on average over the step's layers")
    ] = 4.5,
    spread: Spread,
) -> None:
    """Give each layer its bits by the median of what it puts out, and round it to them."""
    medians = output_medians(model, material.clips, layers)
    sizes = {name: layer.target.numel() for name, layer in layers.items()}
    for name, bits in allocate(medians, sizes, mean_bits).items():
        layer = layers[name]
        layer.weight = layer.with_base(round_to_grid(layer.kept_target(), spread.at(bits), fit_by_weights))
