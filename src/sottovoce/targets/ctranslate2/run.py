"""CTranslate2's Whisper as an engine that writes a clip's tokens on its own."""

import json
import logging
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.models.decoding import Decoded, DecodingRules
from sottovoce.targets.ctranslate2.saturation import exact_here
from sottovoce.targets.engine import EngineKind, OneClip, WholeEngine
from sottovoce.targets.threads import default_threads
from sottovoce.tested import tested

MODEL, VOCABULARY = "model.bin", "vocabulary.json"


@dataclass(frozen=True)
class States(OneClip):
    """An encoder's output for one clip, in CTranslate2's own memory."""

    held: Any


class CTranslate2Engine(WholeEngine):
    """Greedy search by CTranslate2, which gives no logits away; clip by clip, so that none depends on another."""

    together = 1

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        import ctranslate2

        ctranslate2.set_log_level(logging.ERROR)  # it warns that a CPU multiplies float16 as float32
        self._view = ctranslate2.StorageView.from_array
        self._model = ctranslate2.models.Whisper(str(folder), intra_threads=threads or default_threads())
        tokens = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        self._ids = {token: i for i, token in enumerate(tokens)}

    def encode(self, features: Sequence[np.ndarray]) -> States:
        """One clip's features (1, mels, frames)."""
        [clip] = features
        return States(self._model.encode(self._view(np.ascontiguousarray(clip))))

    def decode(self, memory: States, rules: DecodingRules) -> list[Decoded]:
        """The likeliest token at each step; the language first where the rules leave it open."""
        prompt = [self._spoken(memory, rules) if token is None else token for token in rules.prompt]
        most = rules.most_tokens
        told = self._write(memory, prompt, len(prompt), most, rules.suppressed)
        [tokens] = told.sequences_ids
        return [Decoded(tuple(prompt), tuple(tokens), capped=len(tokens) == most)]

    def outputs(self, memory: States) -> Mapping[str, np.ndarray]:
        """The encoder's last state."""
        return {"encoder": np.array(memory.held)[0]}

    def logits(self, prompt: Sequence[int], tokens: Sequence[int], memory: States) -> np.ndarray:
        """(tokens + 1, vocabulary): what follows a prompt is taken for the beginning of what is to be written."""
        fed, asked = [*prompt, *tokens], {"suppress_blank": False, "return_logits_vocab": True}
        told = self._write(memory, fed, len(prompt), len(tokens) + 1, [], **asked)
        return np.array(told.logits[0], np.float32)

    def _write(
        self, memory: States, fed: list[int], prompt: int, most: int, suppressed: Sequence[int], **asked: bool
    ) -> Any:
        """At most so many tokens after the prompt, the likeliest after those that are fed."""
        [told] = self._model.generate(
            memory.held,
            [fed],
            beam_size=1,
            # it writes no more than half of this, and no more than this less the prompt but for its last token
            max_length=max(2 * most, most + prompt - 1),
            suppress_tokens=list(suppressed),
            **asked,
        )
        return told

    def _spoken(self, memory: States, rules: DecodingRules) -> int:
        """The likeliest language's token. Raises ValueError where CTranslate2 takes the model for an English one."""
        if not self._model.is_multilingual:
            raise ValueError(
                f"CTranslate2 detects no language in a vocabulary of {len(self._ids)} tokens (51865 and more are "
                "multilingual to it); say which language is spoken"
            )
        [likely] = self._model.detect_language(memory.held)
        return next(self._ids[token] for token, _ in likely if self._ids[token] in rules.languages)


def holds_integers(folder: Path) -> bool:
    """Whether a folder's model has integers: only they have scales."""
    with (folder / MODEL).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"/weight_scale\0") >= 0


def _saturates(folder: Path) -> bool:
    """See saturation.py; a model of floats has no such products."""
    return holds_integers(folder) and not exact_here()


ENGINE = EngineKind(
    "CTranslate2",
    tested("ctranslate2"),
    (MODEL, VOCABULARY),
    CTranslate2Engine,
    saturates=_saturates,
    greedy_only=True,
)
