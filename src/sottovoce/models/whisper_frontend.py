"""Whisper's speech and text: a log-mel window of fixed length; a prompt of language and task."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sottovoce.models.checkpoint import Checkpoint
from sottovoce.models.decoding import DecodingRules, TimeMarks
from sottovoce.models.frontend import Audio, Features, Frontend
from sottovoce.models.log_mel import LogMel
from sottovoce.models.pooling import Pooling
from sottovoce.models.prompt import LANGUAGE, PROMPT, Sources, complete
from sottovoce.models.tokenizer import added_tokens
from sottovoce.nearest import unknown
from sottovoce.speech.languages import language_code

HOP = 160  # samples a mel frame
_TIMES = 1501
POOLING = "pool_time"
MARGIN = "context_margin_seconds"  # of silence behind a clip; where it is set, the rest of the window is left out
_TIME = re.compile(r"<\|\d+\.\d+\|>")
AUTO = "auto"  # the language is detected
_BEFORE, _START = "<|startofprev|>", "<|startoftranscript|>"
_NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")  # as transformers and as OpenAI call the same token
TIME_SECONDS = 0.02


class WhisperFrontend(Frontend):
    """The window is that of config.json, what fills it that of the feature extractor."""

    usual_end = 50_256
    own_settings: ClassVar = {
        MARGIN: "encodes each clip at its own length (shorten_context)",
        POOLING: "pools the frames inside its encoder (pool_time)",
    }

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        if MARGIN in self.own:
            check_margin(self.own[MARGIN], str(checkpoint.folder / "config.json"))
        assert self.pooling or POOLING not in self.own
        for key in ("dither", "padding_value"):
            if self.extractor.get(key):
                raise ValueError(f"{checkpoint.name}: its feature extractor has {key}={self.extractor[key]}; 0 works")
        saved = self.generation if (checkpoint.folder / "generation_config.json").is_file() else None
        added = added_tokens(self.tokenizer)
        self.generation, self.prompt_notes = complete(
            Sources(checkpoint.name, saved, self.config, added, self.vocabulary)
        )

    @property
    def most_seconds(self) -> float | None:
        """The window: 30 s in the released models."""
        return float(self.window * 2 * HOP / self.sampling_rate)

    @property
    def least_samples(self) -> int:
        """One sample: the rest of the window is silence."""
        return 1

    @cached_property
    def log_mel(self) -> LogMel:
        """As the feature extractor says it."""
        said = self.extractor
        return LogMel(
            said.get("feature_size", 80), said.get("n_fft", 400), said.get("hop_length", HOP), self.sampling_rate
        )

    @property
    def any_length(self) -> bool:
        """Whether the window's silence is left out (shorten_context)."""
        return MARGIN in self.own

    @property
    def window(self) -> int:
        """The positions of the whole window."""
        return int(self.config.get("max_source_positions", 1500))

    def positions(self, samples: int) -> int:
        """The encoder's positions for a clip: those of the window, or the clip's own and its margin."""
        if not self.any_length:
            return self.window
        margin = round(self.own[MARGIN] * self.sampling_rate / (2 * HOP))
        return min(self.window, -(-samples // (2 * HOP)) + margin)

    @property
    def pooling(self) -> Pooling | None:
        """What becomes of the frames inside the encoder."""
        if POOLING not in self.own:
            return None
        return Pooling.of_document(self.own[POOLING], str(self.checkpoint.folder / "config.json"))

    def features(self, audio: Audio) -> npt.NDArray[np.float32]:
        """(samples,) -> log-mel (1, mels, two frames for each of `positions`)."""
        return np.ascontiguousarray(self.taken(self.uncompressed_features(audio), len(audio)))

    def taken(self, features: Features, samples: int) -> Features:
        """The first frames: a loud bin's floor and what a frame holds are the same as in the whole window."""
        return features[..., : 2 * self.positions(samples)] if self.any_length else features

    def uncompressed_features(self, audio: Audio) -> npt.NDArray[np.float32]:
        """(samples,) -> log-mel (1, mels, frames of the window)."""
        window = round(self.extractor.get("chunk_length", 30) * self.sampling_rate)
        made = self.log_mel(audio, window)
        return made.reshape(1, *made.shape)  # an axis by None would have a stride of 0, which ExecuTorch refuses

    @property
    def frame_seconds(self) -> float:
        """0.02, and as many times as pool_time leaves one frame of several."""
        return 2 * HOP / self.sampling_rate * (self.pooling.factor if self.pooling else 1)

    @property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """As generation_config.json names them; dropping blocks and heads keeps them right."""
        return tuple((int(block), int(head)) for block, head in self.generation.get("alignment_heads") or ())

    def shorten(self, frames: int) -> None:
        """Let the window be so many frames of the encoder's output."""
        self.config["max_source_positions"] = frames
        self.extractor |= window_of(self.sampling_rate, self.log_mel.hop, frames)

    @property
    def vocabulary(self) -> int:
        """The tokens that the head scores."""
        return int(self.config.get("vocab_size", 51_865))

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes that a prompt can name, as "de"; English alone where the prompt names no language."""
        if not self.generation["is_multilingual"]:
            return ("en",)
        return tuple(sorted(token.strip("<|>") for token in self.generation["lang_to_id"]))

    def spoken(self, prompt: Sequence[int]) -> str | None:
        """The language that a prompt names; English where it can name none."""
        if not self.generation["is_multilingual"]:
            return "en"
        codes = {token: code.strip("<|>") for code, token in self.generation["lang_to_id"].items()}
        return next((codes[token] for token in prompt if token in codes), None)

    def rules(self, language: str | None = None, task: str | None = None) -> DecodingRules:
        """[start, language, task, no timestamps]; English-only models take neither language nor task.

        Where no file and nobody says a language it is detected, and where somebody says "auto".
        """
        saved = self.generation
        prompt: list[int | None] = [saved["decoder_start_token_id"]]
        languages: tuple[int, ...] = ()
        if saved["is_multilingual"]:
            language = None if language == AUTO else language or saved.get("language")
            task = task or saved.get("task")
            spoken = self._language(language) if language else None
            prompt += [spoken, self._task(task or "transcribe")]
            languages = tuple(saved["lang_to_id"].values()) if spoken is None else ()
        elif language == AUTO or language_code(language or "en") != "en" or task not in (None, "transcribe"):
            raise ValueError(
                f"{self.checkpoint.name} knows English and transcription only; found language={language}, task={task}"
            )
        if "no_timestamps_token_id" in saved:
            prompt.append(saved["no_timestamps_token_id"])
        room = self.config.get("max_target_positions", 448) - len(prompt)
        return DecodingRules(
            prompt=tuple(prompt),
            end=self.end_tokens(),
            # Whisper's max_length does not count the prompt
            most_tokens=min(saved.get("max_new_tokens") or saved.get("max_length") or room, room),
            suppressed=tuple(saved.get("suppress_tokens") or ()),
            suppressed_first=tuple(saved.get("begin_suppress_tokens") or ()),
            languages=languages,
        )

    def _language(self, language: str) -> int:
        known: dict[str, int] = self.generation["lang_to_id"]
        code = language_code(language)
        if f"<|{code}|>" not in known:
            raise unknown("language", language, [token.strip("<|>") for token in known])
        return known[f"<|{code}|>"]

    def _task(self, task: str) -> int:
        known: dict[str, int] = self.generation["task_to_id"]
        if task not in known:
            raise unknown("task", task, known)
        return known[task]

    def text(self, tokens: Sequence[int]) -> str:
        """As transformers writes it: without times, and without what a prompt repeats of the text before."""
        before, start = (self.tokenizer.token_to_id(token) for token in (_BEFORE, _START))
        said = list(tokens)
        if before is not None and said[:1] == [before]:
            said = said[said.index(start) :] if start in said else []
        return _TIME.sub("", self.tokenizer.decode(said, skip_special_tokens=True)).strip()

    def text_tokens(self, text: str) -> list[int]:
        """Whisper's transcripts begin with a space."""
        return list(self.tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids)

    # --- fewer tokens ---------------------------------------------------------------------------

    def control_tokens(self) -> frozenset[int]:
        """All added ones but languages and times: tasks, what a prompt may begin with, and what silence is told by."""
        others = {*self.language_tokens.values(), *self.time_tokens}
        return frozenset(i for i in added_tokens(self.tokenizer).values() if i < self.vocabulary and i not in others)

    @property
    def language_tokens(self) -> Mapping[str, int]:
        """Those of an English-only model too, which has them and does not use them."""
        return {token.strip("<|>"): i for token, i in added_tokens(self.tokenizer).items() if LANGUAGE.fullmatch(token)}

    @property
    def time_tokens(self) -> range:
        """All behind the token that says that there are none, one each 0.02 s of 30 s."""
        none = self.generation.get("no_timestamps_token_id")
        return range(0) if none is None else range(none + 1, min(none + 1 + _TIMES, self.vocabulary))

    @property
    def marks(self) -> TimeMarks | None:
        """None where the tokens of times were cut from the vocabulary, or where a checkpoint names none."""
        times = self.time_tokens
        if not times:
            return None
        added = added_tokens(self.tokenizer)
        silent = next((added[name] for name in _NO_SPEECH if name in added), None)
        none = int(self.generation["no_timestamps_token_id"])
        return TimeMarks(times[0], times[-1], TIME_SECONDS, none, silent, added.get(_BEFORE))

    def generation_file(self) -> dict[str, Any]:
        """With all that a prompt needs: what the numbers of the released models tell, others do not."""
        own = super().generation_file()
        if own is None:
            own = {key: value for key, value in self.config.items() if key.endswith("_token_id")}
        return own | {key: self.generation[key] for key in PROMPT if key in self.generation}

    def tokenizer_settings(self, settings: Mapping[str, Any], now: Mapping[int, int]) -> dict[str, Any]:
        """Without a language that transformers would no longer find: it counts from the start of a transcript."""
        spoken, start = settings.get("language"), self.generation["decoder_start_token_id"]
        token = self.language_tokens.get(language_code(spoken)) if isinstance(spoken, str) else None
        moved = token is not None and (token not in now or now[token] - now[start] != token - start)
        return {**settings, "language": None} if moved else dict(settings)


def check_margin(seconds: object, where: str) -> None:
    """Raise ValueError for a margin that is no time."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
        raise ValueError(f"{where}: {MARGIN} is {seconds!r}; 0 or more seconds would work")


def window_of(rate: int, hop: int, frames: int) -> dict[str, float]:
    """What a feature extractor says of a window of so many frames of the encoder's output."""
    samples = 2 * frames * hop
    seconds = samples / rate
    return {
        "chunk_length": int(seconds) if seconds == int(seconds) else seconds,
        "n_samples": samples,
        "nb_max_frames": 2 * frames,
    }
