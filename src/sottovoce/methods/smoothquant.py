"""SmoothQuant: divide an activation's channels by s and multiply the weights that read them by s.

Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant: Accurate and Efficient Post-Training Quantization
for Large Language Models", 2022, arXiv:2211.10438, eq. 4: s = max|x|^alpha / max|w|^(1 - alpha) for
each channel. The division is folded into the norm that writes the activation, so nothing is left at
run time. It moves difficulty from activations to weights: of use before integer activations, and
seldom for weights alone.
"""

from typing import Annotated

import torch
from pydantic import Field

from sottovoce.blocks.basis import Block
from sottovoce.methods import method


@method(scope="block", owns="basis", needs=frozenset({"absmax"}), after_norms=True)
def smoothquant(
    block: Block,
    *,
    alpha: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="migration strength: 0 leaves the range in the activations, 1 moves all of it to the weights",
        ),
    ] = 0.5,
) -> None:
    """Smooth every site that a norm writes; a channel that never fires keeps its scale."""
    for site in block.sites:
        absmax = block.stats[site.name].absmax
        assert absmax is not None
        largest = torch.stack([block.layers[name].target.abs().amax(0) for name in site.readers]).amax(0)
        s = absmax.clamp(min=1e-5).pow(alpha) / largest.clamp(min=1e-5).pow(1 - alpha)
        block.rescale(site, torch.where((absmax > 0) & (largest > 0), s.clamp(min=1e-5), 1.0))
