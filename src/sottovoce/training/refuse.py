"""What cannot be trained here: which models, by which losses, and with which settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.whisper_frontend import POOLING


def refuse_training(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    """Why a model cannot learn: its losses are of a decoder's tokens; or by these losses or with these settings."""
    if options["learning_rate"] == "auto" and not options["held_out"]:
        return "learning_rate: auto compares losses on held-out audio, and held_out is 0; held_out: 0.05 would work"
    if isinstance(model, EncoderDecoder):
        compared = [name for name in ("encoder", "hidden") if options.get(name)]
        if POOLING in model.frontend.own and compared:
            return (
                f"{' and '.join(compared)}: {model.checkpoint.name} has fewer frames than the uncompressed model "
                f"(pool_time), so they cannot be compared; set {' and '.join(compared)} to 0, logits would work"
            )
        return None
    return (
        f"{model.checkpoint.name} has no decoder (CTC), and recovery training learns from a decoder's tokens; methods "
        "that need calibration audio alone, such as gptq, awq and autoround, would work"
    )
