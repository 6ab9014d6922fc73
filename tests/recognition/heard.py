"""Made-up engines and a made-up Whisper of 20 tokens, for searches that write times."""

from functools import cache

import numpy as np

from sottovoce.models.decoding import DecodingRules, TimeMarks
from tests.recognition.test_beam import Rows

VOCABULARY = 20
END, START, GERMAN, ENGLISH, BEFORE, SILENT, NONE = 8, 9, 10, 11, 12, 13, 14  # text lies below, times from 15 on
MARKS = TimeMarks(first=15, last=19, seconds=0.5, none=NONE, no_speech=SILENT, before=BEFORE)
RULES = DecodingRules((START, ENGLISH, NONE), (END,), 12, suppressed=(START, GERMAN, ENGLISH, BEFORE, SILENT))


@cache
def scores(seed, clip, row):
    """Logits of the token behind all that a row was fed, (vocabulary,) float32."""
    return (2 * np.random.default_rng(hash((seed, clip, row)) % 2**31).standard_normal(VOCABULARY)).astype(np.float32)


class Heard:
    """An engine that scores tokens by all that a row was fed, its prompt too; it remembers how many rows a step had."""

    together = None

    def __init__(self, seed):
        self.seed = seed
        self.rows = []

    def encode(self, features):
        return Rows([int(one.flat[0]) for one in features])

    def scores(self, clip, row):
        return scores(self.seed, clip, row)

    def step(self, tokens, memory, cache):
        self.rows.append(len(tokens))
        held = [()] * len(tokens) if cache is None else cache
        held = [(*before, *new) for before, new in zip(held, tokens.tolist(), strict=True)]
        return np.stack([self.scores(clip, row) for clip, row in zip(memory.clips, held, strict=True)]), held

    def branch(self, memory, cache, parents):
        return Rows([memory.clips[i] for i in parents]), [cache[i] for i in parents]


class Scripted(Heard):
    """An engine whose clips say what they are told to, then end; what is behind the prompt counts."""

    def __init__(self, scripts, prompt=3):
        super().__init__(0)
        self.scripts, self.prompt = scripts, prompt

    def scores(self, clip, row):
        place = len(row) - self.prompt
        made = np.zeros(VOCABULARY, np.float32)
        if place >= 0:
            script = self.scripts[clip]
            made[script[place] if place < len(script) else END] = 12.0
        return made
