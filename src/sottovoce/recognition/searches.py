"""The search that fits an engine, for long recordings: token by token, a runtime's own, or frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sottovoce.models.decoding import Decoded, DecodingRules
from sottovoce.models.frontend import Frontend
from sottovoce.recognition.beam import beam_from
from sottovoce.recognition.ctc import best_path
from sottovoce.recognition.drafts import Draft
from sottovoce.recognition.loops import places_without_loops
from sottovoce.recognition.sampling import Ask, Found, begin, sample
from sottovoce.recognition.time_rules import allow
from sottovoce.targets.engine import AnyEngine, Attentive, Engine, FrameEngine, Memory, WholeEngine


@dataclass(frozen=True)
class Search:
    """A frontend around an engine, and how wide it looks.

    rules  without times; `run` asks for them where its Ask has marks
    draft  proposes tokens where none are drawn, clip by clip; what is found is the same
    """

    frontend: Frontend
    engine: AnyEngine
    rules: DecodingRules
    beam: int = 1
    draft: Draft | None = None

    @property
    def samples(self) -> bool:
        """Whether tokens can be drawn, so that another try gives another text."""
        return not isinstance(self.engine, (WholeEngine, FrameEngine))

    def run(self, features: Sequence[np.ndarray], ask: Ask, drafted: Sequence[np.ndarray] | None = None) -> list[Found]:
        """What each clip, (1, ...), says; as many together as the engine takes, one where there is a draft.

        drafted  the features of the clips for the draft, where they are others (Draft.features)
        """
        if self.draft is not None and not ask.temperature:
            heard = features if drafted is None else drafted
            pairs = zip(features, heard, strict=True)
            return [self.draft.found(self.engine, *pair, self.room(ask), ask) for pair in pairs]
        most = max(1, len(features) // self.beam)
        size = min(most, self.engine.together or most)
        parts = (features[first : first + size] for first in range(0, len(features), size))
        return [found for part in parts for found in self._run(part, ask)]

    @property
    def aligns(self) -> bool:
        """Whether it can be told when each token was said."""
        return isinstance(self.engine, (Attentive, FrameEngine))

    def room(self, ask: Ask) -> DecodingRules:
        """The rules of a transcript with times or without, as long as what comes before it allows."""
        rules = self.rules if ask.written is None else ask.written.asked(self.rules)
        return replace(rules, most_tokens=max(1, rules.most_tokens - len(ask.before)))

    def _run(self, features: Sequence[np.ndarray], ask: Ask) -> list[Found]:
        memory = self.engine.encode(features)
        found = self._searched(memory, ask)
        return [replace(each, heard=(memory, place)) for place, each in enumerate(found)] if self.aligns else found

    def _searched(self, memory: Any, ask: Ask) -> list[Found]:
        engine = self.engine
        if isinstance(engine, WholeEngine):
            return [_found(one) for one in engine.decode(memory, self.rules)]
        if isinstance(engine, FrameEngine):
            return [_found(one) for one in best_path(engine.frame_logits(memory), self.rules)]
        room = self.room(ask)
        if self.beam == 1 or ask.temperature:
            return sample(engine, memory, room, ask)
        return self._beam(engine, memory, room, ask)

    def _beam(self, engine: Engine, memory: Memory, rules: DecodingRules, ask: Ask) -> list[Found]:
        begun, logits, cache = begin(engine, memory, rules, ask)
        marks = ask.written

        def forbid(scores: np.ndarray, rows: Sequence[Sequence[int]]) -> None:
            if marks is not None:
                allow(scores, rows, marks, min(rules.end))

        prompts = [prompt for prompt, _ in begun]
        decoded = beam_from(engine, memory, rules, self.beam, (prompts, logits, cache), forbid)
        return [_watched(_found(one, silent), ask) for one, (_, silent) in zip(decoded, begun, strict=True)]


def _found(decoded: Decoded, silent: float | None = None) -> Found:
    return Found(decoded.prompt, decoded.tokens, decoded.log_probability, silent, capped=decoded.capped)


def _watched(found: Found, ask: Ask) -> Found:
    """With a loop noticed: beams are not stopped in one."""
    words = ask.words(found.tokens)
    return replace(found, looped=ask.watch_loops and len(places_without_loops(words)) < len(words))
