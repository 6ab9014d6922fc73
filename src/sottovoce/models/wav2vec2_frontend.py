"""wav2vec 2.0's speech and text: samples as they are, of any length; characters that frames choose (CTC)."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.models.checkpoint import Checkpoint, read_json
from sottovoce.models.companions import check_companions
from sottovoce.models.decoding import ANY_NUMBER, DecodingRules
from sottovoce.models.frontend import Audio, Frontend
from sottovoce.models.samples import normed

VOCABULARY, _SETTINGS = "vocab.json", "tokenizer_config.json"
_KIND = "Wav2Vec2ForCTC"
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)  # where config.json says nothing else


class Wav2Vec2Frontend(Frontend):
    """Its tokenizer is a list of characters; there is no prompt, no end and no language."""

    @classmethod
    def check(cls, checkpoint: Checkpoint) -> None:
        """Raise ValueError unless it is a model with a CTC head, and vocabulary and feature extractor are there."""
        kinds = read_json(checkpoint.folder / "config.json").get("architectures") or [_KIND]
        if _KIND not in kinds:
            raise ValueError(
                f"{checkpoint.name} is a {kinds[0]}, which has no CTC head; give a checkpoint that was fine-tuned for "
                f"transcription ({_KIND})"
            )
        check_companions(checkpoint, [[VOCABULARY]])

    # --- speech -------------------------------------------------------------------------------

    @property
    def most_seconds(self) -> float | None:
        """Any length."""
        return None

    @cached_property
    def least_samples(self) -> int:
        """What the convolutions need for one frame."""
        needed = 1
        kernels, strides = self.config.get("conv_kernel", _KERNELS), self.config.get("conv_stride", _STRIDES)
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            needed = (needed - 1) * stride + kernel
        return int(needed)

    def features(self, audio: Audio) -> npt.NDArray[np.float32]:
        """(samples,) -> (1, samples), of mean 0 and variance 1 if the feature extractor says so."""
        return normed(audio, self.extractor.get("do_normalize", True))

    @property
    def frame_seconds(self) -> float:
        """Of all strides."""
        return math.prod(self.config.get("conv_stride", _STRIDES)) / self.sampling_rate

    # --- text ---------------------------------------------------------------------------------

    @cached_property
    def _settings(self) -> Mapping[str, Any]:
        """What tokenizer_config.json says, and special_tokens_map.json where it does not."""
        return {**self._read("special_tokens_map.json"), **self._read(_SETTINGS)}

    def _read(self, name: str) -> dict[str, Any]:
        file = self.checkpoint.folder / name
        return read_json(file) if file.is_file() else {}

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        file, size = self.checkpoint.folder / VOCABULARY, self.config.get("vocab_size")
        own = read_json(file)
        found = {**own, **self._read("added_tokens.json")}
        for number, token in self._settings.get("added_tokens_decoder", {}).items():
            found.setdefault(token["content"], int(number))
        if not found or not all(isinstance(number, int) for number in found.values()):
            raise ValueError(
                f"{file} lists no tokens with numbers (one list for each language, "
                "as in MMS, is not supported); that of a wav2vec2 model of one language would work"
            )
        if size and (beyond := [token for token, number in own.items() if not 0 <= number < size]):
            raise ValueError(
                f"{file} gives {beyond[0]!r} the number {found[beyond[0]]}, and the head of config.json scores 0 to "
                f"{size - 1}; copy both from the model that this one was trained from"
            )
        return found

    @cached_property
    def _tokens(self) -> Mapping[int, str]:
        return {number: token for token, number in self._numbers.items()}

    def _special(self, name: str, usual: str) -> str | None:
        """A special token as the tokenizer's settings name it; None if they say that there is none."""
        value = self._settings.get(name, usual)
        return value.get("content", usual) if isinstance(value, dict) else value

    @cached_property
    def _silent(self) -> frozenset[str | None]:
        return frozenset(self._special(name, usual) for name, usual in _SPECIAL.items())

    def check_text(self) -> None:
        """Raise ValueError if the vocabulary is none, holds no text, or lacks the blank."""
        if set(self._numbers) <= {*self._silent, self._special("word_delimiter_token", "|")}:
            raise ValueError(
                f"{self.checkpoint.folder / VOCABULARY} knows special tokens and no text; copy it from the model that "
                "this one was trained from"
            )
        self.rules()

    def save_tokenizer(self, folder: Path) -> None:
        """Its files are small, and copied with the others."""

    @property
    def vocabulary(self) -> int:
        """The tokens that the head scores."""
        return int(self.config.get("vocab_size", len(self._numbers)))

    def rules(self, language: str | None = None, task: str | None = None) -> DecodingRules:
        """Each frame's likeliest token, repetitions and blanks left out."""
        if task not in (None, "transcribe"):
            raise ValueError(f"{self.checkpoint.name} can only transcribe, found task={task}")
        if language is not None:
            raise ValueError(f"{self.checkpoint.name} takes no language: a wav2vec2 model knows one; leave it out")
        blank = self._special("pad_token", "<pad>")
        if blank is None or blank not in self._numbers:
            raise ValueError(
                f"{self.checkpoint.folder / VOCABULARY} has no {blank!r}, the blank of CTC (pad_token of {_SETTINGS}); "
                "copy both from the model that this one was trained from"
            )
        return DecodingRules((), (), ANY_NUMBER, blank=self._numbers[blank])

    def end_tokens(self) -> tuple[int, ...]:
        """None: a transcript ends with its last frame."""
        return ()

    def text(self, tokens: Sequence[int]) -> str:
        """The characters of tokens of which repetitions and blanks are left out."""
        space, silent = self._special("word_delimiter_token", "|"), self._silent
        between = str(self._settings.get("replace_word_delimiter_char", " "))
        written = [self._tokens[token] for token in tokens if token in self._tokens]
        text = "".join(between if token == space else token for token in written if token not in silent).strip()
        return text.lower() if self._settings.get("do_lower_case") else text

    def text_tokens(self, text: str) -> list[int]:
        """A transcript as tokens, one for each character; those that the vocabulary lacks are unknown."""
        unknown = self._numbers.get(self._special("unk_token", "<unk>") or "")
        cased = self._cased(text.strip())
        space = self._special("word_delimiter_token", "|")
        spaced = [space or character if character == " " else character for character in cased]
        found = [self._numbers.get(character, unknown) for character in spaced]
        return [number for number in found if number is not None]

    def _cased(self, text: str) -> str:
        """In the case of the vocabulary's letters."""
        letters = [token for token in self._numbers if len(token) == 1 and token.isalpha()]
        if letters and all(letter.upper() == letter for letter in letters):
            return text.upper()
        return text.lower() if letters and all(letter.lower() == letter for letter in letters) else text
