"""A model that drafts for another (speculative.py): which pairs fit, and what the two share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from sottovoce.models.decoding import DecodingRules
from sottovoce.models.frontend import Frontend
from sottovoce.recognition.sampling import Ask, Found
from sottovoce.recognition.speculative import Counts, speculative
from sottovoce.targets.engine import AnyEngine, Cutting, SharedEncoder, Verifying


class Opened(Protocol):
    """A model that is ready to transcribe: recognizer.py's Recognizer."""

    @property
    def frontend(self) -> Frontend: ...  # noqa: D102

    @property
    def engine(self) -> AnyEngine: ...  # noqa: D102

    @property
    def rules(self) -> DecodingRules: ...  # noqa: D102

    @property
    def beam(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Draft:
    """What drafts.

    shared  whether its encoder is the original's, so that a clip is encoded once
    counts  what it was worth so far
    """

    frontend: Frontend
    engine: Cutting
    shared: bool = False
    counts: Counts = field(default_factory=Counts, compare=False)

    @staticmethod
    def of(draft: Opened, original: Opened) -> "Draft":
        """Raises ValueError, in one sentence, where the one cannot draft for the other."""
        _check_original(original)
        _check_pair(draft, original)
        if not isinstance(draft.engine, Cutting):
            raise ValueError(
                f"{_name(draft)} cannot take back tokens that the original does not choose, as a draft has to; a "
                "model whose decoder writes token by token would work"
            )
        first = original.engine
        return Draft(draft.frontend, draft.engine, isinstance(first, SharedEncoder) and first.encodes_as(draft.engine))

    def features(self, clips: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """What the draft hears of clips (samples,); None where the original has encoded them for it."""
        return None if self.shared else [self.frontend.features(clip) for clip in clips]

    def found(
        self, engine: AnyEngine, features: np.ndarray, drafted: np.ndarray, rules: DecodingRules, ask: Ask
    ) -> Found:
        """What one clip says, by its features (1, ...) for the original and for the draft."""
        assert isinstance(engine, Verifying), "refused before"
        memory = engine.encode([features])
        own = memory if self.shared else self.engine.encode([drafted])
        [found] = speculative(engine, self.engine, memory, own, rules, ask, self.counts)
        return replace(found, heard=(memory, 0))


def _check_original(original: Opened) -> None:
    if original.beam != 1:
        raise ValueError(f"beam={original.beam}: a draft is for greedy search; beam=1, or no draft, would work")
    if not isinstance(original.engine, Verifying):
        raise ValueError(
            f"{_name(original)} cannot check several tokens of a draft in one step; an artifact or a checkpoint with a "
            "decoder, in torch, would work"
        )
    if original.engine.closeness is None:
        raise ValueError(
            f"{_name(original)} rounds what its decoder computes at run time, so a draft could change what it writes; "
            "what it was made from, or weights alone rounded, would work"
        )


def _check_pair(draft: Opened, original: Opened) -> None:
    its, own = draft.frontend, original.frontend
    kinds = its.config.get("model_type"), own.config.get("model_type")
    if kinds[0] != kinds[1]:
        raise ValueError(f"{_name(draft)} is a {kinds[0]} model and cannot draft for {_name(original)}, a {kinds[1]}")
    if its.vocabulary != own.vocabulary or its.tokenizer.get_vocab() != own.tokenizer.get_vocab():
        raise ValueError(
            f"{_name(draft)} has other tokens ({its.vocabulary}) than {_name(original)} ({own.vocabulary}), so it "
            "cannot draft for it; a model with the same vocabulary, none of it trimmed, would work"
        )
    if its.sampling_rate != own.sampling_rate:
        raise ValueError(
            f"{_name(draft)} hears {its.sampling_rate} samples a second and {_name(original)} {own.sampling_rate}; a "
            "draft with the same rate would work"
        )
    seconds = own.bounds.most_seconds
    if its.bounds.least_samples > own.bounds.least_samples or (
        its.bounds.most_seconds is not None and (seconds is None or seconds > its.bounds.most_seconds)
    ):
        raise ValueError(
            f"{_name(draft)} takes no clips as long or as short as {_name(original)} does; a draft with its window "
            "would work"
        )
    if draft.rules.most_tokens < original.rules.most_tokens:
        raise ValueError(
            f"{_name(draft)} writes {draft.rules.most_tokens} tokens at most and {_name(original)} "
            f"{original.rules.most_tokens}; a draft that writes as many would work"
        )


def _name(opened: Opened) -> str:
    return opened.frontend.checkpoint.name
