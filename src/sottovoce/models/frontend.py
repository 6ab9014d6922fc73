"""What lies around a model: from samples to features, from tokens to text, and the rules between them.

All of it comes from a folder's JSON files, with NumPy and the library `tokenizers`: no torch, no transformers, no
weight. So an export transcribes where neither is installed, and a model in torch asks the same frontend.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from sottovoce.models.bounds import Bounds
from sottovoce.models.checkpoint import Checkpoint, model_type, read_json
from sottovoce.models.companions import check_companions, extractor_of, own_settings
from sottovoce.models.decoding import DecodingRules, TimeMarks
from sottovoce.models.families import FAMILIES
from sottovoce.models.token_numbers import renumbered
from sottovoce.models.tokenizer import TOKENIZER, open_tokenizer, parse_tokenizer
from sottovoce.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

Audio = npt.NDArray[np.float32]
Features = TypeVar("Features", npt.NDArray[np.float32], "Tensor")


class Frontend(ABC):
    """A family's speech and text, as one checkpoint has them.

    config          config.json
    extractor       what preprocessor_config.json or processor_config.json says of features
    generation      generation_config.json
    own             what config.json says that transformers does not know
    own_settings    those that a family has, each with what a model does that has it
    runtime_bounds  the clips that a runtime takes, where they are fewer than the model does
    prompt_notes    where the prompt comes from, if generation_config.json does not say all of it
    """

    prompt_notes: tuple[str, ...] = ()
    usual_end: ClassVar[int]  # the token, where no file says it
    own_settings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config = read_json(checkpoint.folder / "config.json")
        self.own = own_settings(checkpoint, self.config, self.own_settings)
        self.extractor = dict(extractor_of(checkpoint.folder))
        saved = checkpoint.folder / "generation_config.json"
        self.generation: dict[str, Any] = read_json(saved) if saved.is_file() else {}
        self.runtime_bounds: Bounds | None = None

    @classmethod
    def check(cls, checkpoint: Checkpoint) -> None:
        """Raise ValueError unless the files beside a checkpoint's weights are there and fit the model."""
        check_companions(checkpoint)

    # --- speech -------------------------------------------------------------------------------

    @cached_property
    def sampling_rate(self) -> int:
        """Samples a second that `features` expects."""
        return int(self.extractor.get("sampling_rate", 16_000))

    @property
    @abstractmethod
    def most_seconds(self) -> float | None:
        """The longest clip that the encoder takes whole; None if any length."""

    @property
    @abstractmethod
    def least_samples(self) -> int:
        """The shortest clip that the encoder takes."""

    @property
    def bounds(self) -> Bounds:
        """The clips that are transcribed whole: the model's own bounds, unless a runtime's are narrower."""
        return self.runtime_bounds or Bounds(self.least_samples, self.most_seconds)

    @property
    def any_length(self) -> bool:
        """Whether the encoder takes as many positions as a clip has, and not a whole window."""
        return self.most_seconds is None

    @property
    def short_context(self) -> bool:
        """Whether there is a window, and clips are not padded to it (shorten_context)."""
        return self.most_seconds is not None and self.any_length

    @abstractmethod
    def features(self, audio: Audio) -> npt.NDArray[np.float32]:
        """(samples,) float32 -> the encoder's input for one clip, (1, ...) float32."""

    @property
    @abstractmethod
    def frame_seconds(self) -> float:
        """From one frame of the encoder's output to the next."""

    @property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """(block, head) of the decoder's cross-attention that follow the speech, where a checkpoint names them."""
        return ()

    def uncompressed_features(self, audio: Audio) -> npt.NDArray[np.float32]:
        """What `features` was before the model was compressed; `taken` says which of it the encoder takes now."""
        return self.features(audio)

    def taken(self, features: Features, samples: int) -> Features:
        """Of the uncompressed model's features (1, ...) of a clip of so many samples, what this model takes: a view."""
        return features

    def check_seconds(self, seconds: float, name: str) -> None:
        """As `check_samples`, from a clip's length in seconds, as its manifest or header tells it."""
        self.check_samples(round(seconds * self.sampling_rate), name)

    def check_samples(self, samples: int, name: str) -> None:
        """Raise ValueError if a clip is too long or too short for the encoder."""
        seconds, bounds = samples / self.sampling_rate, self.bounds
        if not bounds.hold(seconds):
            raise ValueError(
                f"{name} lasts {bounds.beyond(seconds)} s, and {self.checkpoint.name} transcribes "
                f"{bounds.most_seconds:g} s at once; cut it into pieces of at most that length"
            )
        if samples < bounds.least_samples:
            raise ValueError(
                f"{name} has {samples} samples, and {self.checkpoint.name} needs at least {bounds.least_samples} "
                f"({bounds.least_samples / self.sampling_rate:.3f} s)"
            )

    # --- text ---------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer that the checkpoint's files describe."""
        return open_tokenizer(self.checkpoint)

    def check_text(self) -> None:
        """Raise ValueError if tokens cannot be written as text."""
        assert self.tokenizer

    def save_tokenizer(self, folder: Path) -> None:
        """Put what the folder of an export lacks to be read without transformers."""
        if not (folder / TOKENIZER).is_file():
            self.tokenizer.save(str(folder / TOKENIZER))

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """The tokens that the head scores."""

    @abstractmethod
    def rules(self, language: str | None = None, task: str | None = None) -> DecodingRules:
        """Prompt, suppressed tokens, end and longest output for these settings."""

    @property
    def languages(self) -> tuple[str, ...] | None:
        """The codes of the languages that it can be asked for, as "de"; None if it takes no language."""
        return None

    def spoken(self, prompt: Sequence[int]) -> str | None:
        """The code of the language that a prompt names; None if it names none."""
        return None

    @property
    def marks(self) -> TimeMarks | None:
        """The tokens of times and what belongs to them; None for a model that writes no times."""
        return None

    def end_tokens(self) -> tuple[int, ...]:
        """The tokens that end a transcript: one, or as many as generation_config.json lists."""
        value = self.generation.get("eos_token_id", self.config.get("eos_token_id", self.usual_end))
        ends = tuple(value) if isinstance(value, list) else (value,)
        if not ends or not all(isinstance(token, int) for token in ends):
            raise ValueError(
                f"{self.checkpoint.name} has no eos_token_id in generation_config.json, so a transcript would never end"
            )
        return ends

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without special tokens."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

    def text_tokens(self, text: str) -> list[int]:
        """A transcript as the tokens that the model would emit for it, without prompt and end."""
        return list(self.tokenizer.encode(text.strip(), add_special_tokens=False).ids)

    # --- fewer tokens ---------------------------------------------------------------------------

    def control_tokens(self) -> frozenset[int]:
        """The tokens beside text that the model works with, though no file names them for a purpose."""
        return frozenset()

    @property
    def language_tokens(self) -> Mapping[str, int]:
        """The tokens of languages by their codes, as "de"."""
        return {}

    @property
    def time_tokens(self) -> range:
        """The tokens of times, which a tokenizer may have no names for."""
        return range(0)

    def generation_file(self) -> dict[str, Any] | None:
        """What generation_config.json says, or has to say where the tokens' numbers are others; None without it."""
        saved = self.checkpoint.folder / "generation_config.json"
        return read_json(saved) if saved.is_file() else None

    def tokenizer_settings(self, settings: Mapping[str, Any], now: Mapping[int, int]) -> dict[str, Any]:
        """tokenizer_config.json or special_tokens_map.json where the tokens of `now` get other numbers."""
        return dict(settings)

    def keep_tokens(self, kept: Sequence[int]) -> dict[str, str | None]:
        """Have the tokens `kept` alone, in rising order, and number them anew: the files that say so (vocabulary.py).

        Raises ValueError if a token is missing that the model cannot do without.
        """
        vocabulary = Vocabulary(self)
        files = vocabulary.files(kept)
        now = {number: place for place, number in enumerate(kept)}
        self.config, self.generation = vocabulary.config(now), renumbered(self.generation, now)
        self.tokenizer = parse_tokenizer(str(files[TOKENIZER]))
        return files


def supported(checkpoint: Checkpoint) -> str:
    """A checkpoint's `model_type`, once the files beside its weights have been checked.

    Raises ValueError that lists the supported ones, or says what is missing or wrong in the folder.
    """
    kind = model_type(checkpoint)
    if kind not in FAMILIES:
        raise ValueError(f"{checkpoint.name} is a {kind!r} model; supported are {', '.join(FAMILIES)}")
    FAMILIES[kind].frontend_class().check(checkpoint)
    return kind


def open_frontend(checkpoint: Checkpoint) -> Frontend:
    """The frontend of a checkpoint's folder. Raises ValueError as `supported` does, and for a file that is damaged."""
    found: Frontend = FAMILIES[supported(checkpoint)].frontend_class()(checkpoint)
    found.check_text()
    return found
