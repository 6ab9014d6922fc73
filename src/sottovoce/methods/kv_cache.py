"""Integer keys and values: the decoder's cache holds them on a grid, with a scale for each head and token.

Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", 2024, arXiv:2404.00456, section 4, has this
grid too: asymmetric, for each token and head, found at run time. (A scale for each channel of the keys, as in Liu et
al., "KIVI", 2024, arXiv:2402.02750, waits for 32 tokens to share it, and a transcript is often shorter.) Rounded is
what the cache holds: keys after rotary positions, cross-attention's once for a clip. So a transcript does not depend
on its batch, nor on how many tokens were fed at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.models.names import CACHED
from sottovoce.numbers.rounding import Rounding
from sottovoce.weights.weight import Layer, LayerShape


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if not shape.cached:
        return (
            f"kv_cache rounds what the decoder's cache holds, which {shape.name} does not make; "
            f"where: {' and '.join(CACHED)} would work"
        )
    return None


@method(
    scope="layer",
    owns="output",
    refuse=_refuse,
    where=CACHED,
    words=lambda name, options: {"activations": f"kv int{options['bits']}"},
)
def kv_cache(
    layer: Layer,
    stats: InputStats,
    *,
    bits: Annotated[int, Field(ge=2, le=8, description="bits of a key or value in the cache")] = 8,
    symmetric: Annotated[
        bool,
        Field(
            description="symmetric grid around zero; false: asymmetric grid with a zero point for each head and token"
        ),
    ] = False,
) -> Rounding:
    """Keep the layer's outputs as integers in the cache."""
    return Rounding(bits, "token", symmetric)
