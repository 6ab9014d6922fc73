"""The one model that a server has, and what it makes of a request's wishes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import load
from sottovoce.recognition.transcriber import Transcriber
from sottovoce.recognition.wishes import Wishes
from sottovoce.serving.asked import Asked
from sottovoce.serving.worker import Blocks, Transcribing
from sottovoce.speech.stream import blocks


@dataclass(frozen=True)
class Served:
    """name is what clients see; transcriber raises ValueError for what the model cannot do; blocks read a file."""

    name: str
    sampling_rate: int
    transcriber: Callable[[Asked], Transcribing]
    blocks: Blocks


def served(target: str, language: str | None, wishes: Wishes, device: str = "cpu", beam: int = 1) -> Served:
    """A model opened for serving; language and wishes hold where a request says nothing else.

    Raises ValueError for a target that cannot be opened, and for wishes that it cannot do.
    """
    recognizer = load(target, language=language, device=device, beam=beam)

    def transcriber(asked: Asked) -> Transcribing:
        return _transcriber(recognizer, language, wishes, asked)

    transcriber(Asked())
    return Served(_shown(target), recognizer.frontend.sampling_rate, transcriber, blocks)


def _transcriber(recognizer: Recognizer, language: str | None, wishes: Wishes, asked: Asked) -> Transcribing:
    """For one request."""
    task = None if asked.task == "transcribe" else asked.task
    rules = recognizer.frontend.rules(asked.language or language, task)
    prompt = wishes.prompt if asked.prompt is None else asked.prompt or None
    own = wishes.model_copy(update={"words": asked.words, "prompt": prompt})
    return Transcriber.of(replace(recognizer, rules=rules), own)


def _shown(target: str) -> str:
    """A hub id as it is; of a folder its name alone, since its path is nobody's business."""
    folder = Path(target)
    return folder.resolve().name if folder.exists() else target
