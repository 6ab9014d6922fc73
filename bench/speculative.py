"""Speculative decoding beside plain greedy search, on speech: what a draft is worth, and whether it changes the text.

    python -m bench.speculative MODEL DRAFT MANIFEST [--limit 40] [--times]

Both write each clip in turn, which of them first changing from clip to clip. Seconds are of processor time, since a
shared machine's clock tells of others' work too: run it with OMP_NUM_THREADS=1. The encoders' are told apart; a draft
whose encoder is the original's encodes nothing.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import process_time
from typing import Any

import numpy as np

import sottovoce
from sottovoce.recognition.drafts import Draft
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.sampling import Ask, Found, sample
from sottovoce.recognition.searches import Search
from sottovoce.recognition.speculative import speculative
from sottovoce.speech.datasets import read_corpus


@dataclass
class Way:
    """One way to write the clips: processor seconds, and what was found."""

    encoding: float = 0.0
    writing: float = 0.0
    found: list[Found] = field(default_factory=list)

    def run(self, encode: Callable[[], Any], write: Callable[[Any], list[Found]]) -> None:
        """One clip."""
        begin = process_time()
        memory = encode()
        encoded = process_time()
        self.found += write(memory)
        self.encoding += encoded - begin
        self.writing += process_time() - encoded

    def told(self, name: str) -> str:
        """A row of the table."""
        tokens = sum(len(one.tokens) + (not one.capped and not one.looped) for one in self.found)
        whole = self.encoding + self.writing
        return (
            f"{name:<9}{self.encoding:>9.1f}{self.writing:>9.1f}{tokens:>8}{tokens / self.writing:>10.1f}"
            f"{tokens / whole:>10.1f}"
        )


def measure(model: Recognizer, drafting: Draft, clips: list[np.ndarray], ask: Ask) -> tuple[Way, Way]:
    """Every clip written both ways: plain, and with the draft, which counts."""
    engine: Any = model.engine
    rules = Search(model.frontend, engine, model.rules).room(ask)
    plain, drafted = Way(), Way()

    def both(features: np.ndarray, own: np.ndarray) -> tuple[Any, Any]:
        memory = engine.encode([features])
        return memory, memory if drafting.shared else drafting.engine.encode([own])

    for number, clip in enumerate(clips):
        features, own = model.frontend.features(clip), drafting.frontend.features(clip)
        turns = [
            lambda f=features: plain.run(lambda: engine.encode([f]), lambda m: sample(engine, m, rules, ask)),
            lambda f=features, o=own: drafted.run(
                lambda: both(f, o), lambda m: speculative(engine, drafting.engine, *m, rules, ask, drafting.counts)
            ),
        ]
        for turn in turns[:: -1 if number % 2 else 1]:
            turn()
    return plain, drafted


def main() -> int:
    """The table; 1 if any text differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "draft", "manifest"):
        parser.add_argument(name)
    parser.add_argument("--limit", type=int, default=40, help="clips, from the first on")
    parser.add_argument("--language", help="of a multilingual model; detected if left out")
    parser.add_argument("--times", action="store_true", help="with time tokens, as long recordings are written")
    asked = parser.parse_args()
    model = sottovoce.load(asked.model, language=asked.language)
    drafting = Draft.of(sottovoce.load(asked.draft), model)
    ask = Ask(marks=model.frontend.marks if asked.times else None)
    clips = [model.read(each.audio) for each in read_corpus(asked.manifest, need_text=False).utterances[: asked.limit]]
    measure(model, replace(drafting, counts=type(drafting.counts)()), clips[:1], ask)  # the first run is slower
    plain, drafted = measure(model, drafting, clips, ask)
    print(
        f"{'':<9}{'encoding':>9}{'writing':>9}{'tokens':>8}{'tokens/s':>10}{'in all':>10}   seconds of processor time"
    )
    print(plain.told("plain"))
    print(drafted.told("drafted"))
    counts = drafting.counts
    print(f"accepted {counts.accepted / max(1, counts.proposed):.1%} of {counts.proposed} tokens; {counts}")
    same = sum(_text(one) == _text(other) for one, other in zip(plain.found, drafted.found, strict=True))
    print(f"the same: {same} of {len(clips)}; encoder shared: {drafting.shared}")
    return int(same < len(clips))


def _text(found: Found) -> Found:
    return replace(found, log_probability=None)


if __name__ == "__main__":
    sys.exit(main())
