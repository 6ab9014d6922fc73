"""Exports at the released sizes beside each other and the peers: `python -m bench.edge whisper-tiny --threads 1 2`.

Random weights, which cost what trained ones do. All is made once, in build/edge; each table is one run of `bench`.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import sottovoce
from bench.sizes import SIZES, WHISPER, write
from sottovoce.cli.bench_table import bench_view
from sottovoce.cli.console import show, track
from sottovoce.exporting.verb import SelfTestError
from sottovoce.timing.bench import bench

HERE = Path("build/edge")
SMALL = {"bits": 4, "group_size": 32}
RECIPES = {  # 8 bits a row; or the encoder at 8, the decoder and the tied table at 4
    "8": {"steps": ["rtn"], "grid": {"bits": 8}, "target": "executorch"},
    "4": {
        "steps": [{"rtn": {"where": "encoder", "bits": 8}}, {"rtn": {"where": "decoder", **SMALL}}],
        "target": "executorch",
    },
}


def main() -> int:
    """Make what is asked for, time it, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", choices=SIZES)
    parser.add_argument("--to", nargs="+", default=["executorch", "onnx"])
    parser.add_argument("--bits", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--peers", nargs="*", default=["faster-whisper", "faster-whisper-best"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", nargs="+", type=float, default=[30.0])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for model in asked.models:
        for seconds in asked.seconds:
            targets = [made(model, to, bits, seconds) for bits in asked.bits for to in asked.to]
            peers = [peer for peer in asked.peers if model in WHISPER or peer == "transformers"]
            options = {"threads": asked.threads, "seconds": seconds, "tokens": 64, "rounds": asked.rounds}
            found = bench(targets, peers=peers, track=track, **options)
            named = [replace(speed, target=Path(speed.target).name) for speed in found.speeds]
            show(bench_view(replace(found, speeds=tuple(named))))
    return 0


def made(model: str, to: str, bits: str, seconds: float) -> Path:
    """An export, made once. A Whisper for less than its window is one with a shorter window."""
    short = seconds < 30 and model in WHISPER
    folder = HERE / f"{model}-{bits}-{to}{f'-{seconds:g}s' if short else ''}"
    artifact = _once(
        HERE / f"{model}-{bits}", lambda out: sottovoce.compress(write(model, HERE), recipe=RECIPES[bits], output=out)
    )
    own = {"seconds": seconds} if short else {}
    return _once(folder, lambda out: sottovoce.export(artifact, to=to, output=out, track=track, **own))


def _once(folder: Path, make: Callable[[Path], object]) -> Path:
    if not folder.exists():
        try:
            make(folder)
        except SelfTestError as failure:
            print(failure, file=sys.stderr)
    return folder


if __name__ == "__main__":
    sys.exit(main())
