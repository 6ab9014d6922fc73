"""Model families: a module in torch and a frontend without it, one file each, and the table that names them.

To add a family: write models/<name>.py with one SpeechModel subclass and models/<name>_frontend.py with one Frontend,
and add their line to FAMILIES. docs/adding-a-model.md walks through one.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.models.checkpoint import Checkpoint, resolve
from sottovoce.models.families import FAMILIES
from sottovoce.models.frontend import supported

if TYPE_CHECKING:
    from sottovoce.models.base import SpeechModel


def family(checkpoint: Checkpoint) -> "type[SpeechModel]":
    """The class for a checkpoint's `model_type`. Raises ValueError as `supported` does."""
    found: type[SpeechModel] = FAMILIES[supported(checkpoint)].model_class()
    return found


def open_layout(checkpoint: Checkpoint) -> "SpeechModel":
    """The model without its weights, on the meta device: names, shapes, prompt and features, in a second."""
    return family(checkpoint).without_weights(checkpoint)


def open_model(model: str | Path, revision: str | None = None) -> "SpeechModel":
    """The model with its weights in float32: a hub id (with @revision), or a folder in transformers' format."""
    checkpoint = resolve(model, revision)
    return family(checkpoint).with_weights(checkpoint)
