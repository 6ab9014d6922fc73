"""Activation sparsity: the small entries of what a layer reads become 0 at run time, by one threshold for each layer.

Liu et al., "Training-Free Activation Sparsity in Large Language Models" (TEAL), 2024, arXiv:2408.14690, section 4: the
threshold below which a chosen share of the magnitudes lies in the calibration data; Lee et al., "CATS", 2024,
arXiv:2404.08763, choose it likewise for a gated MLP. The share is the same in every layer: TEAL's greedy search over
layers is not here. The zeros are set in the encoder and for the first tokens too, where TEAL leaves some vectors whole.

After a GELU most entries are small, so the second product of the MLP is the place to look. What it saves is the reading
of weights: for one vector, as a decoder reads at each step, a column whose input is 0 need not be read. No runtime
here skips them: `inspect` says how many bytes a kernel that does would not read.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import method
from sottovoce.numbers.zeroing import fit_zeroing
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Layer, LayerShape


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if shape.kind == "conv":
        return (
            f"sparsify_activations skips columns of a product with one vector, and {shape.name} is a convolution; "
            "exclude it with where"
        )
    return None


def _words(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    return {"activations": f"{100 * options['share']:g} % zeros"}


@method(
    scope="layer",
    owns="input",
    needs=frozenset({"sample"}),
    refuse=_refuse,
    where=("~*.fc2", "~*.feed_forward.output_dense"),
    writes=lambda options: ("zeros",),
    words=_words,
)
def sparsify_activations(
    layer: Layer,
    stats: InputStats,
    *,
    share: Annotated[
        float, Field(gt=0, lt=1, description="share of an activation's entries that become 0, as calibration saw them")
    ] = 0.5,
) -> InputPath:
    """Set the small entries of the input to 0, after any change of basis and before any rounding that is there."""
    assert stats.sample is not None
    return replace(layer.input, zeroing=fit_zeroing(stats.sample, share))
