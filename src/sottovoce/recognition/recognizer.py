"""Audio in, text out: a frontend around an engine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from sottovoce.models.decoding import Decoded, DecodingRules
from sottovoce.models.frontend import Frontend
from sottovoce.recognition.beam import beam
from sottovoce.recognition.ctc import best_path
from sottovoce.recognition.greedy import prompts
from sottovoce.recognition.segment import Segment, Transcript
from sottovoce.recognition.transcriber import Transcriber
from sottovoce.recognition.wishes import Wishes
from sottovoce.speech import audio
from sottovoce.speech.stream import blocks as audio_blocks
from sottovoce.targets.engine import AnyEngine, FrameEngine, WholeEngine

if TYPE_CHECKING:
    from sottovoce.models.base import SpeechModel


@dataclass(frozen=True)
class Recognizer:
    """What `load` returns: transcribes files and arrays.

    rules  hold the prompt (language and task) and the longest output
    beam   beams of the search; 1 is greedy search
    open_draft  opens a draft by its name, on the same device; None where nobody said how
    """

    frontend: Frontend
    engine: AnyEngine
    rules: DecodingRules
    beam: int = 1
    open_draft: "Callable[[str | Path], Recognizer] | None" = field(default=None, compare=False)

    @staticmethod
    def of(model: "SpeechModel", language: str | None = None, task: str | None = None, beam: int = 1) -> "Recognizer":
        """A recognizer on the torch engine."""
        from sottovoce.targets.torch import torch_engine

        return Recognizer(model.frontend, torch_engine(model), model.rules(language, task), beam)

    @overload
    def transcribe(
        self,
        speech: str | Path | np.ndarray,
        *,
        stream: Literal[False] = False,
        draft: "str | Path | Recognizer | None" = None,
        **wishes: Any,
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        speech: str | Path | np.ndarray,
        *,
        stream: Literal[True],
        draft: "str | Path | Recognizer | None" = None,
        **wishes: Any,
    ) -> Iterator[Segment]: ...

    def transcribe(
        self,
        speech: str | Path | np.ndarray,
        *,
        stream: bool = False,
        draft: "str | Path | Recognizer | None" = None,
        **wishes: Any,
    ) -> Transcript | Iterator[Segment]:
        """A recording of any length, a file or samples (float32, at the model's rate), as segments with times.

        stream  give each segment as soon as it is certain, and hold no more of the recording than a piece of it
        draft   a smaller model of the same family and vocabulary, or its name, that proposes tokens; what is written
                is what this model writes alone, clip by clip
        wishes  as Wishes names them: method, vad, words, prompt, condition, batch, guards

        Raises ValueError for wishes that the model cannot do, for a draft that does not fit, and for audio that cannot
        be read or is not finite.
        """
        drafting = self.drafting(draft) if isinstance(draft, (str, Path)) else draft
        transcriber = Transcriber.of(self, Wishes(**wishes), drafting)
        if isinstance(speech, np.ndarray):
            blocks: Iterable[np.ndarray] = [self._finite(speech, "the recording")]
        else:
            blocks = audio_blocks(speech, self.frontend.sampling_rate)
        stretches = transcriber.stretches(blocks)
        return (segment for each in stretches for segment in each.segments) if stream else Transcript.of(stretches)

    def drafting(self, name: str | Path) -> "Recognizer":
        """A model that drafts for this one, by its name. Raises ValueError where it cannot be opened."""
        if self.open_draft is None:
            raise ValueError(f"this recognizer opens no {name}; sottovoce.load({str(name)!r}) as draft would work")
        return self.open_draft(name)

    def transcribe_clips(self, speech: str | Path | np.ndarray | Sequence[str | Path | np.ndarray]) -> str | list[str]:
        """The text of a clip that the model takes whole, a file or samples (float32, at the model's rate).

        A list of them gives a list. Nothing is left out or tried again, and no times are asked for. Raises ValueError
        for audio that cannot be read, is not finite, or is longer than the model takes.
        """
        if isinstance(speech, (str, Path, np.ndarray)):
            return self._texts([speech])[0]
        return self._texts(list(speech))

    def _texts(self, speech: Sequence[str | Path | np.ndarray]) -> list[str]:
        clips = [self._samples(item, i) for i, item in enumerate(speech)]
        features = [self.frontend.features(clip) for clip in clips]
        return [self.frontend.text(decoded.tokens) for decoded in self.decode(features)] if clips else []

    def read(self, path: str | Path) -> np.ndarray:
        """The samples of a file at the model's rate. Raises ValueError if it cannot be transcribed whole."""
        samples = audio.read(path, self.frontend.sampling_rate)
        self.frontend.check_samples(len(samples), str(path))
        return samples

    def _samples(self, item: str | Path | np.ndarray, place: int) -> np.ndarray:
        if not isinstance(item, np.ndarray):
            return self.read(item)
        samples = self._finite(item, f"clip {place}")
        self.frontend.check_samples(len(samples), f"clip {place}")
        return samples

    def _finite(self, item: np.ndarray, name: str) -> np.ndarray:
        if item.dtype.kind != "f":
            raise ValueError(f"{name}: found {item.dtype}; float samples, whose full scale is 1, would work")
        samples = item.astype(np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise ValueError(
                f"{name}: found shape {samples.shape}; a finite one-dimensional array at "
                f"{self.frontend.sampling_rate} Hz would work"
            )
        return samples

    def decode(self, features: Sequence[np.ndarray]) -> list[Decoded]:
        """One batch of features, each (1, ...), to the tokens chosen for each clip."""
        together = max(1, len(features) // self.beam)  # a beam takes the room of a clip
        return [row for batch in self._batches(features, together) for row in self._search(batch)]

    def _search(self, features: Sequence[np.ndarray]) -> list[Decoded]:
        """The search that fits the engine."""
        engine = self.engine
        memory = engine.encode(features)
        if isinstance(engine, WholeEngine):
            return engine.decode(memory, self.rules)
        if isinstance(engine, FrameEngine):
            return best_path(engine.frame_logits(memory), self.rules)
        return beam(engine, memory, self.rules, self.beam)

    def prompts(self, features: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
        """The prompt of each clip; the encoder runs only if a language has to be detected."""
        known = tuple(token for token in self.rules.prompt if token is not None)
        if len(known) == len(self.rules.prompt):
            return [known] * len(features)
        engine = self.engine
        assert not isinstance(engine, WholeEngine), "prompts are asked of a model that is open, and not of an export"
        assert not isinstance(engine, FrameEngine), "a CTC model has no prompt"
        batches = self._batches(features, max(1, len(features)))
        asked = (prompts(engine, engine.encode(batch), self.rules).tolist() for batch in batches)
        return [tuple(prompt) for batch in asked for prompt in batch]

    def _batches(self, features: Sequence[np.ndarray], most: int) -> Iterator[Sequence[np.ndarray]]:
        """At most so many clips together, and no more than the engine takes."""
        size = min(most, self.engine.together or most)
        return (features[start : start + size] for start in range(0, len(features), size))
