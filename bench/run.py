"""`make bench`: compression and evaluation at whisper-tiny's real size, timed and weighed.

    python -m bench.run [--clips 128] [--only gptq-w4 ...]

Weights are random and audio is noise of 30 s: time and memory do not depend on what is said. Every
measurement runs in a process of its own, with two threads, so that its peak memory is its own. What is
asserted is a ratio to something measured in the same run: a plain pass of transformers' own model over
the same clips, transformers' own batched generate, and transformers' own Trainer (on the built-in models).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from tests.toys import whisper_sized

HERE = Path("build/bench")
WORST = {
    # name: (most, what it is a ratio of)
    "gptq / plain pass": 6.0,
    "rtn / plain pass": 1.0,
    "evaluate / generate": 1.10,
    "train whisper / Trainer": 1.0,
    "train moonshine / Trainer": 1.0,
}


def main() -> int:
    """Write the inputs, run every measurement, print the table, say what missed its ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--only", nargs="*")
    asked = parser.parse_args()
    write_inputs(asked.clips)
    names = asked.only or [f"pass {asked.clips}", "rtn", "hqq", "gptq 16", f"gptq {asked.clips}", "evaluate"]
    if not asked.only:
        names += ["train whisper", "train moonshine"]
    results = {name: measure(name) for name in names}
    print(f"\n{'measurement':<16}{'seconds':>9}{'peak MB':>9}   details")
    for name, result in results.items():
        details = ", ".join(f"{key} {value}" for key, value in result.items() if key not in ("seconds", "peak_mb"))
        print(f"{name:<16}{result['seconds']:>9.1f}{result['peak_mb']:>9.0f}   {details}")
    return judge(results, asked.clips)


def write_inputs(clips: int) -> None:
    """A random model of whisper-tiny's size that writes 60 tokens, and clips of noise."""
    if not (HERE / "whisper-tiny" / "config.json").exists():
        shutil.rmtree(HERE, ignore_errors=True)
        whisper_sized(HERE / "whisper-tiny")
        path = HERE / "whisper-tiny" / "generation_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "max_length": 64}))
    rng = np.random.default_rng(0)
    rows = []
    for i in range(clips):
        path = HERE / "speech" / f"{i:03}.wav"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, rng.normal(0, 0.1, 480_000).astype(np.float32), 16_000, subtype="PCM_16")
        rows.append({"audio": f"speech/{path.name}", "text": "some words of noise", "seconds": 30.0})
    (HERE / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def measure(name: str) -> dict[str, float]:
    """One measurement in a process of its own. Raises RuntimeError with what it said if it failed."""
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "bench.measurements", str(HERE), *name.split()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def judge(results: dict[str, dict[str, float]], clips: int) -> int:
    """Hold the ratios against their bounds; returns the exit code."""
    plain = results.get(f"pass {clips}", {}).get("seconds")
    found = {}
    if plain:
        found["gptq / plain pass"] = results.get(f"gptq {clips}", {}).get("seconds", 0) / plain
        found["rtn / plain pass"] = results.get("rtn", {}).get("seconds", 0) / plain
    if "evaluate" in results:
        found["evaluate / generate"] = results["evaluate"]["ratio"]
    for family in ("whisper", "moonshine"):
        if f"train {family}" in results:
            found[f"train {family} / Trainer"] = results[f"train {family}"]["ratio"]
    missed = 0
    for name, ratio in found.items():
        verdict = "ok" if ratio <= WORST[name] else "MISSED"
        missed += verdict == "MISSED"
        print(f"{name}: {ratio:.2f} (at most {WORST[name]:g}) {verdict}")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
