"""A model whose text follows from the samples that it hears, for what lies around it, and a clock that it moves."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sottovoce.models.bounds import Bounds
from sottovoce.models.decoding import DecodingRules, TimeMarks
from sottovoce.recognition.live import BEHIND, SHORTEST_SILENCE, Live
from sottovoce.recognition.making import Making, Speech
from sottovoce.recognition.sampling import Found
from sottovoce.recognition.searches import Search
from sottovoce.recognition.transcriber import Transcriber
from sottovoce.recognition.voice import RATE
from sottovoce.recognition.wishes import Wishes

START, NONE, END = 90, 92, 99
ENGLISH, GERMAN = 94, 93
MARKS = TimeMarks(first=100, last=1600, seconds=0.02, none=NONE, no_speech=95, before=96)
RULES = DecodingRules((START, ENGLISH, NONE), (END,), 448)
OPEN_RULES = DecodingRules((START, None, NONE), (END,), 448, languages=(GERMAN, ENGLISH))
TOKEN_SECONDS = 0.3


@dataclass
class Frontend:
    """Texts are the numbers of tokens below 90."""

    marks: TimeMarks | None = None
    most_seconds: float = 30.0
    sampling_rate = RATE

    @property
    def bounds(self):
        return Bounds(400, self.most_seconds)

    def features(self, clip):
        return clip[None]

    def text(self, tokens):
        return " ".join(f"w{token}" for token in tokens if token < START)

    def spoken(self, prompt):
        return {GERMAN: "de", ENGLISH: "en"}.get(prompt[1])


class Drawing:
    """An engine whose tokens can be drawn."""

    together = None


@dataclass(frozen=True)
class Told(Search):
    """`says(clip, rules)` is what is found of a clip (samples,); `asked` are the clips; each moves the clock."""

    says: Callable | None = None
    asked: list = field(default_factory=list)
    clock: list = field(default_factory=lambda: [0.0])
    took: float = 0.0

    def run(self, features, ask, drafted=None):
        self.clock[0] += self.took * len(features)
        self.asked.extend(one[0] for one in features)
        return [self.says(one[0], self.rules) for one in features]


def heard(clip, rules, marks=None):
    """A token for each 0.3 s of a clip, which follows from its samples; the last one from fewer of them."""
    language = rules.prompt[1] or (GERMAN if len(clip) % 2 else ENGLISH)
    length = round(TOKEN_SECONDS * RATE)
    parts = [clip[at : at + length] for at in range(0, len(clip), length)]
    tokens = [int(np.abs(part).sum() * 1000) % 89 for part in parts]
    if marks is not None:
        tokens = [t for place, token in enumerate(tokens) for t in _timed(token, place, marks)]
    return Found((START, language), tuple(tokens), -0.1 * len(tokens), 0.01)


def _timed(token, place, marks):
    """Every fourth token closes a phrase."""
    at = marks.first + round(place * TOKEN_SECONDS / marks.seconds)
    begins = [at] if place % 4 == 0 else []
    ends = [at + round(TOKEN_SECONDS / marks.seconds)] if place % 4 == 3 else []
    return [*begins, token, *ends]


def whisper(clip, rules):
    return heard(clip, rules, MARKS)


def live(says=heard, took=0.0, most=30.0, rules=RULES, partial_seconds=0.5, silence=0.6, guards=False):
    """A stream, and its search. A model that writes times is one whose `says` is `whisper`."""
    marks = MARKS if says is whisper else None
    search = Told(Frontend(marks, most), Drawing(), rules, says=says, took=took)
    making = Making(RATE, int(most * RATE), 400, silence - SHORTEST_SILENCE, Speech(BEHIND))
    transcriber = Transcriber(search, Wishes(guards=guards))
    return Live(transcriber, making, partial_seconds, lambda: search.clock[0]), search
