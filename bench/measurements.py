"""What bench/run.py measures, one measurement a process: `python -m bench.measurements FOLDER NAME [CLIPS]`."""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.methods import recipe_of
from bench.training import training
from sottovoce.compressing.compress import compress
from sottovoce.models import open_layout, open_model
from sottovoce.models.checkpoint import resolve
from sottovoce.recipes.recipe import Recipe
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.speech import audio
from sottovoce.speech.datasets import read_corpus

torch.set_num_threads(2)
FOLDER = Path(sys.argv[1])
STEM = ["encoder.conv*", "*embed_positions"]


def four_bits(method: str) -> dict[str, object]:
    """4 bits in groups of 64 over the whole model; the stem, whose inputs 64 does not divide, at 8 bits per channel."""
    return {
        "grid": {"bits": 4, "group_size": 64, "symmetric": False},
        "steps": [
            {method: {"where": STEM, "bits": 8, "group_size": "channel"}},
            {method: {"where": [f"!{pattern}" for pattern in STEM]}},
        ],
    }


def compressing(recipe: Mapping[str, Any] | Recipe, clips: int | None) -> dict[str, Any]:
    """`compress` end to end: read, featurise, decode tokens, calibrate, sweep, save."""
    phases: dict[str, float] = {}

    def track(items, total, what):  # type: ignore[no-untyped-def]
        started = time.perf_counter()
        yield from items
        phases[what] = round(time.perf_counter() - started, 1)

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        data = {"data": FOLDER / "clips.jsonl", "limit": clips} if clips else {}
        made = compress(FOLDER / "whisper-tiny", recipe=recipe, output=Path(folder) / "out", track=track, **data)
        return {"seconds": time.perf_counter() - started, "MB": round(made.bytes / 1e6, 1), **phases}


def method(name: str, clips: int) -> dict[str, Any]:
    """One method as bench/methods.py asks for it; seconds are without those of the calibration clips."""
    chosen = recipe_of(name, open_layout(resolve(FOLDER / "whisper-tiny")))
    measured = compressing(chosen, clips if chosen.needs else None)
    calibration = measured.pop("calibration tokens", 0.0)
    told = " + ".join(step.label for step in chosen.steps)
    return {**measured, "seconds": measured["seconds"] - calibration, "calibration": calibration, "recipe": told}


def plain_pass(clips: int) -> dict[str, object]:
    """transformers' own forward over every clip: the encoder once, the decoder on 60 tokens."""
    model = open_model(FOLDER / "whisper-tiny")
    corpus = read_corpus(FOLDER / "clips.jsonl").select(clips, 0)
    tokens = torch.full((1, 64), 300)
    seconds = 0.0
    for utterance in corpus.utterances:
        features = model.features(audio.read(utterance.audio))
        started = time.perf_counter()
        with torch.inference_mode():
            model.module(input_features=features, decoder_input_ids=tokens)
        seconds += time.perf_counter() - started
    return {"seconds": seconds}


def evaluating() -> dict[str, object]:
    """Our batched decoding against transformers' generate, the same 16 clips, in turn."""
    model = open_model(FOLDER / "whisper-tiny")
    recognizer = Recognizer.of(model)
    corpus = read_corpus(FOLDER / "clips.jsonl").select(16, 0)
    features = [model.features(audio.read(utterance.audio)) for utterance in corpus.utterances]
    batch = torch.cat(features)

    def ours() -> list[list[int]]:
        return [list(decoded.tokens) for decoded in recognizer.decode(features)]

    def theirs() -> list[list[int]]:
        with torch.inference_mode():
            return model.module.generate(batch, language="en", task="transcribe").tolist()

    ours(), theirs()  # warm
    pairs = [(timed(ours), timed(theirs)) for _ in range(5)]
    a, b = ours(), theirs()
    assert all(x == y[: len(x)] for x, y in zip(a, b, strict=True)), "the two chose other tokens"
    ratios = sorted(x / y for x, y in pairs)
    return {
        "seconds": statistics.median(x for x, _ in pairs),
        "generate_seconds": round(statistics.median(y for _, y in pairs), 2),
        "ratio": round(statistics.median(ratios), 3),
        "spread": f"{ratios[0]:.2f}-{ratios[-1]:.2f}",
        "RTFx": round(16 * 30 / statistics.median(x for x, _ in pairs), 1),
    }


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


MEASUREMENTS: dict[str, Callable[..., dict[str, object]]] = {
    "pass": lambda clips: plain_pass(int(clips)),
    "rtn": lambda: compressing(four_bits("rtn"), None),
    "hqq": lambda: compressing(four_bits("hqq"), None),
    "gptq": lambda clips: compressing(four_bits("gptq"), int(clips)),
    "method": lambda name, clips: method(name, int(clips)),
    "evaluate": evaluating,
    "train": training,
}

if __name__ == "__main__":
    result = MEASUREMENTS[sys.argv[2]](*sys.argv[3:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({**result, "peak_mb": round(peak)}))
