"""Which models cannot be trained here."""

from collections.abc import Mapping, Sequence
from typing import Any

from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder


def refuse_frames(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    """Why a model cannot learn: its losses are of a decoder's tokens."""
    if isinstance(model, EncoderDecoder):
        return None
    return (
        f"{model.checkpoint.name} has no decoder (CTC), and recovery training learns from a decoder's tokens; methods "
        "that need calibration audio alone, such as gptq, awq and autoround, would work"
    )
