"""What cannot be trained here: which models, and with which settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder


def refuse_training(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    """Why a model cannot learn, its losses being of a decoder's tokens; or why not with these settings."""
    if options["learning_rate"] == "auto" and not options["held_out"]:
        return "learning_rate: auto compares losses on held-out audio, and held_out is 0; held_out: 0.05 would work"
    if isinstance(model, EncoderDecoder):
        return None
    return (
        f"{model.checkpoint.name} has no decoder (CTC), and recovery training learns from a decoder's tokens; methods "
        "that need calibration audio alone, such as gptq, awq and autoround, would work"
    )
