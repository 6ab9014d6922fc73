"""A target of ours as `bench` times it: an artifact, an export or a checkpoint, on its engine."""

import time
from dataclasses import replace
from functools import cached_property

import numpy as np

from sottovoce.recognition.ctc import best_path
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import Target, find_target
from sottovoce.targets.engine import FrameEngine, WholeEngine
from sottovoce.targets.threads import set_default_threads
from sottovoce.timing.contenders.contender import Contender, Job, Times


class Own:
    """The encoder and then single steps, the likeliest token fed back."""

    def __init__(self, job: Job) -> None:
        set_default_threads(job.threads)
        self.job = job
        self.target = find_target(job.model)
        self.recognizer: Recognizer

    def load(self) -> None:
        """With the imports of its engine."""
        self.recognizer = self.target.recognizer()

    def hear(self, clip: str) -> str:
        """As `transcribe` does."""
        return str(self.recognizer.transcribe_clips(clip))

    def time(self) -> Times:
        """Features are made before."""
        engine, features = self.recognizer.engine, self._features
        if isinstance(engine, WholeEngine):
            return self._whole(engine, features)
        if isinstance(engine, FrameEngine):
            return self._frames(engine, features)
        prompt = np.array([[token or 0 for token in self.job.prompt]])
        start = time.perf_counter()
        memory = engine.encode([features])
        encoded = time.perf_counter()
        logits, cache = engine.step(prompt, memory, None)
        first = time.perf_counter()
        for _ in range(self.job.tokens - 1):
            logits, cache = engine.step(logits.argmax(-1, keepdims=True), memory, cache)
        return Times(encoded - start, first - encoded, time.perf_counter() - first)

    def _frames(self, engine: FrameEngine, features: np.ndarray) -> Times:
        """Of an encoder whose frames score the tokens, all of them at once."""
        start = time.perf_counter()
        memory = engine.encode([features])
        encoded = time.perf_counter()
        best_path(engine.frame_logits(memory), self.recognizer.rules)
        return Times(encoded - start, time.perf_counter() - encoded, 0.0)

    def _whole(self, engine: WholeEngine, features: np.ndarray) -> Times:
        """Of an engine that does not stop between tokens: those that follow are what all take more than one."""
        rules = self.recognizer.rules
        endless = replace(rules, suppressed=(*rules.suppressed, *rules.end))
        start = time.perf_counter()
        memory = engine.encode([features])
        encoded = time.perf_counter()
        engine.decode(memory, replace(endless, most_tokens=1))
        first = time.perf_counter()
        engine.decode(memory, replace(endless, most_tokens=self.job.tokens))
        whole = time.perf_counter() - first
        return Times(encoded - start, first - encoded, max(0.0, whole - (first - encoded)))

    @cached_property
    def _features(self) -> np.ndarray:
        frontend = self.recognizer.frontend
        return frontend.features(self.job.noise(frontend.sampling_rate))


def contender(target: Target) -> Contender:
    """A target's line of the bench."""
    rules = target.frontend.rules()
    runs = f"{__name__}:{Own.__name__}"
    return Contender(target.name, target.bytes, runs, target.name, rules.prompt, rules.end, rules.most_tokens)
