"""One model in a process of its own, timed when it is told to: the half of `bench` that runs it.

    python -m sottovoce.measure.stopwatch TARGET THREADS SECONDS TOKENS

A line on standard input is a command, a line of JSON on standard output its answer: "hear" says a clip that comes with
sottovoce, "time" encodes noise and writes TOKENS tokens, whatever they are. The first line, unasked, is of loading.
"""

import json
import resource
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sottovoce.engines.base import WholeEngine
from sottovoce.exporting.selftest import fitting_speech
from sottovoce.models.decoding import DecodingRules
from sottovoce.recognizer import Recognizer
from sottovoce.target import find_target


def main() -> int:
    """Load, then do as told until the input ends."""
    name, threads, seconds, tokens = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    target = find_target(name)
    started = time.perf_counter()
    recognizer = target.recognizer()
    _say(load=time.perf_counter() - started, peak_mb=_peak_mb())
    features = recognizer.model.features(_noise(round(seconds * recognizer.model.sampling_rate)))
    for command in sys.stdin:
        if command.strip() == "hear":
            _say(text=_heard(recognizer), peak_mb=_peak_mb())
        else:
            _say(**_timed(recognizer, features, tokens), peak_mb=_peak_mb())
    return 0


def _heard(recognizer: Recognizer) -> str:
    clips = fitting_speech(recognizer.model)
    return str(recognizer.transcribe(clips[0].audio)) if clips else ""


@torch.inference_mode()
def _timed(recognizer: Recognizer, features: Tensor, tokens: int) -> dict[str, float]:
    """Seconds of the encoder, of the first token after it, and of those that follow."""
    engine = recognizer.engine
    if isinstance(engine, WholeEngine):
        return _timed_whole(engine, recognizer.rules, features, tokens)
    prompt = torch.tensor([[token or 0 for token in recognizer.rules.prompt]])
    start = time.perf_counter()
    memory = engine.encode([features])
    encoded = time.perf_counter()
    logits, cache = engine.step(prompt, memory, None)
    first = time.perf_counter()
    for _ in range(tokens - 1):
        logits, cache = engine.step(logits.argmax(-1, keepdim=True), memory, cache)
    return {"encoder": encoded - start, "first": first - encoded, "rest": time.perf_counter() - first}


def _timed_whole(engine: WholeEngine, rules: DecodingRules, features: Tensor, tokens: int) -> dict[str, float]:
    """The same of an engine that does not stop between tokens: those that follow are what all take more than one."""
    endless = replace(rules, suppressed=(*rules.suppressed, *rules.end))
    start = time.perf_counter()
    memory = engine.encode([features])
    encoded = time.perf_counter()
    engine.decode(memory, replace(endless, most_tokens=1))
    first = time.perf_counter()
    engine.decode(memory, replace(endless, most_tokens=tokens))
    whole = time.perf_counter() - first
    return {"encoder": encoded - start, "first": first - encoded, "rest": max(0.0, whole - (first - encoded))}


def _noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())
