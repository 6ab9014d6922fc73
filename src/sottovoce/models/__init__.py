"""Model families, one file each, and the one table that names them.

To add a family: write models/<name>.py with one SpeechModel subclass and add its line to FAMILIES.
docs/adding-a-model.md walks through one.
"""

from importlib import import_module
from pathlib import Path

from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import Checkpoint, model_type, resolve
from sottovoce.models.companions import check_companions

FAMILIES = {
    "whisper": "sottovoce.models.whisper:Whisper",
    "moonshine": "sottovoce.models.moonshine:Moonshine",
}


def family(checkpoint: Checkpoint) -> type[SpeechModel]:
    """The class for a checkpoint's `model_type`, once the files beside its weights have been checked.

    Raises ValueError that lists the supported ones, or says what is missing or wrong in the folder.
    """
    kind = model_type(checkpoint)
    if kind not in FAMILIES:
        raise ValueError(f"{checkpoint.name} is a {kind!r} model; supported are {', '.join(FAMILIES)}")
    check_companions(checkpoint)
    module, name = FAMILIES[kind].split(":")
    found = getattr(import_module(module), name)
    assert issubclass(found, SpeechModel)
    return found


def open_layout(checkpoint: Checkpoint) -> SpeechModel:
    """The model without its weights, on the meta device: names, shapes, prompt and features, in a second."""
    return family(checkpoint).without_weights(checkpoint)


def open_model(model: str | Path, revision: str | None = None) -> SpeechModel:
    """The model with its weights in float32: a hub id (with @revision), or a folder in transformers' format."""
    checkpoint = resolve(model, revision)
    return family(checkpoint).with_weights(checkpoint)
