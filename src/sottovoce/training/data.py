"""What a training step learns from, beside the model: audio, the uncompressed model, a folder for its state."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

from sottovoce.models.base import SpeechModel
from sottovoce.models.frontend import Frontend
from sottovoce.models.renumbered import written_anew
from sottovoce.models.structure import Clip
from sottovoce.progress import Track, silent
from sottovoce.speech.datasets import Corpus


@dataclass(frozen=True)
class TrainingData:
    """The utterances to train on, read where they are needed and never all at once.

    language  of the audio, for a multilingual Whisper whose checkpoint names none
    teacher   opens the uncompressed model behind the one in training
    folder    where each training step keeps its state
    heard     the file that keeps the uncompressed model's transcripts of the corpus, once a step has asked
    """

    corpus: Corpus
    language: str | None
    teacher: Callable[[], SpeechModel]
    folder: Path
    heard: Path
    track: Track = silent

    def at(self, step: int) -> "TrainingData":
        """The same for one training step of a recipe, with a folder of its own."""
        return replace(self, folder=self.folder / f"step-{step}")


@dataclass(frozen=True)
class Material:
    """What a step on the whole model may look at: calibration clips, training data where the recipe trains.

    written_by  the frontend whose tokens the clips have; None for the model's own as a recipe begins
    """

    clips: Sequence[Clip] = ()
    training: TrainingData | None = None
    written_by: Frontend | None = None

    def as_written_by(self, frontend: Frontend) -> "Material":
        """The same with the clips' tokens as `frontend` has them now; it may lose some later."""
        now = copy(frontend)
        clips = self.clips if self.written_by is None else written_anew(self.clips, now, self.written_by)
        return replace(self, clips=clips, written_by=now)

    @property
    def lessons(self) -> TrainingData:
        """The training data, which a recipe that trains always has."""
        assert self.training is not None, "a method that needs training data is given it"
        return self.training
