"""One model in a process of its own, timed when it is told to: the half of `bench` that runs it.

    python -m sottovoce.timing.stopwatch JOB

JOB is a contender.Job in JSON. A line on standard input is a command, a line of JSON on standard output its answer:
"hear CLIP" says the text of an audio file, "time" encodes noise and writes tokens. The first line, unasked, is of
loading.
"""

import json
import resource
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from sottovoce.timing.contenders.contender import Job, Timed


def main() -> int:
    """Load, then do as told until the input ends."""
    job = Job(**json.loads(sys.argv[1]))
    module, own = job.runs.split(":")
    timed: Timed = getattr(import_module(module), own)(job)
    started = time.perf_counter()
    timed.load()
    _say(load=time.perf_counter() - started)
    for line in sys.stdin:
        command, _, clip = line.rstrip("\n").partition(" ")
        if command == "hear":
            _say(text=timed.hear(clip))
        else:
            _say(**asdict(timed.time()), peak_mb=peak_mb())
    return 0


def peak_mb() -> float:
    """The most memory that this process has held, in MB.

    Linux counts in ru_maxrss what the parent held when it started this process, so its own status is read instead.
    """
    status = Path("/proc/self/status")
    if status.exists():
        [peak] = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")]
        return int(peak.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())
