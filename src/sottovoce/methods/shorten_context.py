"""The encoder takes as many positions as a clip has, and not a window of 30 s that is mostly silence.

Features are not padded and the table of positions is cut to a clip's own, so that the encoder's cost, and that of
cross-attention, follows the clip: a sixth for 5 s. Whisper has never met such input and answers with loops; training
behind it (distill), the teacher at the whole window and the student at the clip's length, holds the WER. FUTO,
"Finetuning Whisper for dynamic audio context robustness" (ACFT), github.com/futo-org/whisper-acft: tiny.en on the first
128 utterances of LibriSpeech test-clean has 4.7 % WER at the whole window, 226 % without it, and 5.5 % after training.
There the loss is the squared error of the decoder's hidden states, and lengths are changed at random by up to a third;
here any of distill's losses, at the length that the model will see. Runtimes that pad every clip refuse such a model.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from sottovoce.methods import method
from sottovoce.methods.whole_model import refuse_where
from sottovoce.models.base import SpeechModel
from sottovoce.models.window import leave_out_window, without_window
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if reason := refuse_where("shorten_context", model, names):
        return reason
    if (reason := without_window(model)) is not None:
        return reason
    assert model.most_seconds is not None
    margin = options["margin_seconds"]
    if margin >= model.most_seconds:
        return (
            f"margin_seconds: {margin:g} fills the window of {model.checkpoint.name}, {model.most_seconds:g} s, for "
            "every clip, so none would be encoded shorter; less would work"
        )
    return None


def _reshape(layout: SpeechModel, names: object, options: Mapping[str, Any]) -> Mapping[str, str]:
    leave_out_window(layout, options["margin_seconds"])
    return {name: name for name in layout.shapes}


def _left(layout: object, names: object, options: Mapping[str, Any]) -> str:
    margin = options["margin_seconds"]
    return "context of the clip" + (f" + {margin:g} s" if margin else "")


@method(scope="model", owns="structure", refuse_model=_refuse, reshape=_reshape, left=_left, writes=lambda options: ())
def shorten_context(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    margin_seconds: Annotated[
        float, Field(ge=0, description="silence that is encoded behind each clip, in seconds")
    ] = 0.0,
) -> Mapping[str, str]:
    """Leave the window's silence out; every layer stays under its name."""
    leave_out_window(model, margin_seconds)
    return {name: name for name in layers}
