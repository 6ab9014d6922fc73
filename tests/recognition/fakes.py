"""A frontend of ten samples a second and a search that says what it is told to, for what lies around both."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from sottovoce.models.decoding import DecodingRules, TimeMarks
from sottovoce.recognition.sampling import Found
from sottovoce.recognition.searches import Search
from sottovoce.recognition.window import Window

RATE = 10
START, SPOKEN, NONE, END = 90, 91, 92, 99
LANGUAGES = {93: "de", 94: "en"}
MARKS = TimeMarks(first=100, last=400, seconds=0.1, none=NONE, no_speech=95, before=96)
RULES = DecodingRules((START, 94, NONE), (END,), 64)
OPEN_RULES = DecodingRules((START, None, NONE), (END,), 64, languages=(93, 94))


def t(seconds):
    """The token of a time."""
    return MARKS.first + round(seconds / MARKS.seconds)


class Frontend:
    """Texts are the numbers of tokens below 90."""

    sampling_rate = RATE
    most_seconds = 30.0
    frame_seconds = 0.1
    alignment_heads = ((0, 0),)
    marks = MARKS

    def features(self, clip):
        return clip[None]

    def text(self, tokens):
        return " ".join(f"w{token}" for token in tokens if token < START)

    def spoken(self, prompt):
        return next((LANGUAGES[token] for token in prompt if token in LANGUAGES), None)


class Drawing:
    """An engine whose tokens can be drawn."""

    together = None


class Late(Drawing):
    """An engine whose decoder looks at the first frame for the first token, and at the last ones for all others."""

    def attention(self, memory, place, tokens):
        frames = len(memory[place])
        looks = np.full((1, len(tokens), frames), 1e-3, np.float32)
        looks[0, 1:, -8:] = 1.0
        return [looks]


@dataclass(frozen=True)
class Told(Search):
    """`says(clip, ask)` is what is found of a clip (samples,); `asked` are the batches so far: clips and Ask."""

    says: Callable = None
    asked: list = field(default_factory=list)

    def run(self, features, ask, drafted=None):
        clips = [one[0] for one in features]
        self.asked.append((clips, ask, self.rules))
        return [replace(self.says(clip, ask), heard=(clips, i)) for i, clip in enumerate(clips)]


def told(says, rules=RULES, engine=None):
    return Told(Frontend(), engine or Drawing(), rules, says=says)


def found(*tokens, mean=-0.2, language=94, silent=0.01, **more):
    """What was written, of that mean log-probability."""
    return Found((START, language), tokens, mean * (len(tokens) + 1), silent, **more)


def window(seconds, start=0.0, speech=None):
    """Samples that count their place in the recording."""
    samples = np.arange(round(start * RATE), round((start + seconds) * RATE), dtype=np.float32)
    return Window.of(start, samples, RATE, speech if speech is not None else [(start, start + seconds)])
