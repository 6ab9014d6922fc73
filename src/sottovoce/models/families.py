"""The one table of model families: for each what runs it in torch, and what lies around that, without torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Family:
    """Where a family's classes are, as "module:class" in this folder; neither is imported before it is asked for.

    model     a SpeechModel
    frontend  a Frontend
    """

    model: str
    frontend: str

    def model_class(self) -> Any:
        """The SpeechModel."""
        return _found(self.model)

    def frontend_class(self) -> Any:
        """The Frontend."""
        return _found(self.frontend)


FAMILIES = {  # by the model_type of config.json
    "whisper": Family("whisper:Whisper", "whisper_frontend:WhisperFrontend"),
    "moonshine": Family("moonshine:Moonshine", "moonshine_frontend:MoonshineFrontend"),
    "wav2vec2": Family("wav2vec2:Wav2Vec2", "wav2vec2_frontend:Wav2Vec2Frontend"),
}


def _found(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(f"sottovoce.models.{module}"), name)
