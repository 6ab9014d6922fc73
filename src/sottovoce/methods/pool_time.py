"""Fewer time steps inside a Whisper's encoder: neighbouring frames become one behind an early block.

The blocks behind it, and the decoder's cross-attention for every token, have `factor` times fewer positions. Xu,
Sharify, Mostafa, Webb, Yazar, Wang, "Early Attentive Sparsification Accelerates Neural Speech Transcription", 2025,
arXiv:2506.15912, drop the time steps that an early block's self-attention attends to least, and find 40 to 60 % of
them to cost less than 1 % of accuracy without training. Here the places are the same for every clip, so that a graph
has them: neighbours are averaged, or all but the first dropped. Train behind it by distill's logits: the frames are
others than the uncompressed model's.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from sottovoce.methods import method
from sottovoce.methods.whole_model import refuse_where
from sottovoce.models.base import SpeechModel
from sottovoce.models.pooling import Pooling
from sottovoce.models.window import can_pool, pool_frames
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer


def _pooling(options: Mapping[str, Any]) -> Pooling:
    return Pooling(options["after"], options["factor"], options["by"])


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if reason := refuse_where("pool_time", model, names):
        return reason
    if (reason := can_pool(model)) is not None:
        return reason
    if options["after"] > (there := len(model.blocks("encoder"))):
        return f"after: {options['after']}: {model.checkpoint.name} has {there} encoder blocks; 0 to {there} would work"
    return None


def _reshape(layout: SpeechModel, names: object, options: Mapping[str, Any]) -> Mapping[str, str]:
    pool_frames(layout, _pooling(options))
    return {name: name for name in layout.shapes}


def _left(layout: object, names: object, options: Mapping[str, Any]) -> str:
    told = "mean" if options["by"] == "mean" else "first"
    return f"1 of {options['factor']} frames after block {options['after']} ({told})"


@method(scope="model", owns="structure", refuse_model=_refuse, reshape=_reshape, left=_left, writes=lambda options: ())
def pool_time(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    after: Annotated[int, Field(ge=0, description="encoder blocks before the pooling")] = 1,
    factor: Annotated[int, Field(ge=2, le=8, description="neighbouring frames that become one")] = 2,
    by: Annotated[
        Literal["mean", "drop"], Field(description="mean of the neighbours, or the first of them alone")
    ] = "mean",
) -> Mapping[str, str]:
    """Pool the frames inside the encoder; every layer stays under its name."""
    pool_frames(model, Pooling(after, factor, by))
    return {name: name for name in layers}
