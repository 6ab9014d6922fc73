"""The verb `bench`: how fast models are, in turn in one run, since a machine is never the same twice.

Each model lives in a process of its own, so that its peak memory is its own; only one works at a time. Every round
times all of them one after another (A B C, A B C, ...), and a ratio is taken within a round, before any median.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from sottovoce.measure.inspect import default_workload
from sottovoce.progress import Track, silent
from sottovoce.speech.wer import align
from sottovoce.target import Target, find_target

_TOKENS = 64


@dataclass(frozen=True)
class Speed:
    """One model under one number of threads.

    bytes       of its weights on disk
    load        seconds until it can hear, Python's imports included
    encoder, first, token   milliseconds, the median over rounds: the encoder, the first token after it, each token that
                follows
    rtfx        seconds of audio heard in a second, everything included
    ratio       its time of a round over that of the first model in the same round: median, least, most
    peak_mb     memory at most, torch included
    words       of the clip that all hear first, as the first model hears it; differing: those that this one does not
    """

    target: str
    threads: int
    bytes: int
    load: float
    encoder: float
    first: float
    token: float
    rtfx: float
    ratio: tuple[float, float, float]
    peak_mb: float
    words: int
    differing: int


@dataclass(frozen=True)
class Bench:
    """All speeds, and what was asked: seconds of audio, tokens written, rounds."""

    seconds: float
    tokens: int
    rounds: int
    speeds: tuple[Speed, ...]

    def as_document(self) -> dict[str, Any]:
        """The bench for JSON."""
        return asdict(self)


def bench(
    targets: str | Path | Sequence[str | Path],
    *,
    threads: Sequence[int] = (1, 2),
    seconds: float | None = None,
    tokens: int | None = None,
    rounds: int = 5,
    track: Track = silent,
) -> Bench:
    """Time models beside each other on noise of `seconds`, each writing `tokens` tokens, whatever is likeliest.

    targets  artifacts, exports, checkpoints; ratios are to the first
    threads  each number is a run of its own
    seconds  of audio; 10, or the shortest window where that is shorter, when left out
    tokens   64, or the longest output of all where that is shorter, when left out
    rounds   after one that is not counted

    Raises ValueError for a target that cannot be run, or does not hear that many seconds or write that many tokens.
    """
    listed = [targets] if isinstance(targets, (str, Path)) else list(targets)
    found = [find_target(target) for target in dict.fromkeys(map(str, listed))]
    if not found:
        raise ValueError("no target to time; an artifact, an export or a checkpoint would work")
    longest = min(target.layout().rules().most_tokens for target in found)
    written = min(_TOKENS, longest) if tokens is None else tokens
    for name, value in (("threads", min(threads, default=0)), ("tokens", written), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"{name}={value}: 1 or more would work")
    work = seconds if seconds is not None else min(default_workload(target.layout()).seconds for target in found)
    for target in found:
        target.layout().check_seconds(work, f"noise of {work:g} s")
        if written > (most := target.layout().rules().most_tokens):
            raise ValueError(f"{target.name} writes {most} tokens at most, and {written} are asked for")
    numbers = list(dict.fromkeys(threads))
    told = track(range(len(numbers) * (rounds + 1)), len(numbers) * (rounds + 1), "rounds")
    speeds = [speed for number in numbers for speed in _in_turn(found, number, work, written, islice(told, rounds + 1))]
    return Bench(work, written, rounds, tuple(speeds))


def _in_turn(targets: Sequence[Target], threads: int, seconds: float, tokens: int, steps: Iterable[Any]) -> list[Speed]:
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(target, threads, seconds, tokens)) for target in targets]
        texts = [str(worker.ask("hear")["text"]) for worker in workers]
        rounds = [[worker.ask("time") for worker in workers] for _ in steps][1:]
    return [
        _speed(worker, [each[place] for each in rounds], [each[0] for each in rounds], texts[0], texts[place])
        for place, worker in enumerate(workers)
    ]


def _speed(
    worker: "_Worker", own: list[dict[str, float]], first: list[dict[str, float]], expected: str, heard: str
) -> Speed:
    ratios = [_whole(mine) / _whole(theirs) for mine, theirs in zip(own, first, strict=True)]
    return Speed(
        worker.target.name,
        worker.threads,
        worker.target.bytes,
        worker.load,
        1000 * median(each["encoder"] for each in own),
        1000 * median(each["first"] for each in own),
        1000 * median(each["rest"] for each in own) / max(1, worker.tokens - 1),
        worker.seconds / median(map(_whole, own)),
        (median(ratios), min(ratios), max(ratios)),
        max(each["peak_mb"] for each in own),
        len(expected.split()),
        align(expected, heard).errors,
    )


def _whole(timed: dict[str, float]) -> float:
    return timed["encoder"] + timed["first"] + timed["rest"]


class _Worker:
    """A process of sottovoce.measure.stopwatch."""

    def __init__(self, target: Target, threads: int, seconds: float, tokens: int) -> None:
        self.target, self.threads, self.seconds, self.tokens = target, threads, seconds, tokens
        self.load = 0.0

    def __enter__(self) -> "_Worker":
        words = [self.target.name, self.threads, self.seconds, self.tokens]
        command = [sys.executable, "-m", "sottovoce.measure.stopwatch", *map(str, words)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.load = self._answer()["load"]
        return self

    def ask(self, command: str) -> dict[str, Any]:
        """The answer to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            told = (self._process.stderr.read().strip().splitlines() or ["it said nothing"])[-1]
            raise ValueError(f"{self.target.name} could not be run with {self.threads} threads: {told}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
