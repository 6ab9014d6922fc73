"""The verb `bench`: how fast models are, in turn in one run, since a machine is never the same twice.

Each model lives in a process of its own, so that its peak memory is its own; only one works at a time. Every round
times all of them one after another (A B C, A B C, ...), and a ratio is taken within a round, before any median.
Peers, other programs that run the first target's uncompressed checkpoint, take part as targets do.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from sottovoce.exporting.make_selftest import fitting_speech
from sottovoce.measure.inspect import default_workload
from sottovoce.measure.wer import align
from sottovoce.progress import Track, silent
from sottovoce.recognition.target import Target, find_target
from sottovoce.timing.contenders.contender import Contender, Times
from sottovoce.timing.contenders.own import contender
from sottovoce.timing.contenders.table import ask

_TOKENS = 64


@dataclass(frozen=True)
class Speed:
    """One model, or peer, under one number of threads.

    bytes       of its weights on disk
    load        seconds until it can hear, Python's imports included
    encoder, first, token   milliseconds, the median over rounds: the encoder, the first token after it, each token that
                follows
    rtfx        seconds of audio heard in a second, everything included
    ratio       its time of a round over that of the first model in the same round: median, least, most
    peak_mb     memory at most, torch included where it is used
    words       of the clip that all transcribe first, as the first model does; differing: those that this one does not
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
    peers: Sequence[str] = (),
    track: Track = silent,
) -> Bench:
    """Time models beside each other on noise of `seconds`, each writing `tokens` tokens, whatever is likeliest.

    targets  artifacts, exports, checkpoints; ratios are to the first
    threads  each number is a run of its own
    seconds  of audio; 10, or the shortest window where that is shorter, when left out
    tokens   64, or the longest output of all where that is shorter, when left out
    rounds   after one that is not counted
    peers    by the names of PEERS, made from the first target's uncompressed checkpoint

    Raises ValueError for a target that cannot be run, takes less audio than that or writes fewer tokens, and
    for a peer that is not installed or cannot run the model.
    """
    asked = plan(targets, threads=threads, seconds=seconds, tokens=tokens, rounds=rounds)
    beside = ask(peers, asked.targets[0])
    clip = _clip(asked.targets)
    told = track(range(len(asked.threads) * (rounds + 1)), len(asked.threads) * (rounds + 1), "rounds")
    with tempfile.TemporaryDirectory(prefix="sottovoce-peers-") as folder:
        contenders = [*map(contender, asked.targets), *(peer.contender(Path(folder)) for peer in beside)]
        speeds = [
            speed
            for number in asked.threads
            for speed in _in_turn(contenders, number, asked.seconds, asked.tokens, clip, islice(told, rounds + 1))
        ]
    return Bench(asked.seconds, asked.tokens, rounds, tuple(speeds))


@dataclass(frozen=True)
class Plan:
    """What a bench was asked, filled in and found to work."""

    targets: tuple[Target, ...]
    threads: tuple[int, ...]
    seconds: float
    tokens: int


def plan(
    targets: str | Path | Sequence[str | Path],
    *,
    threads: Sequence[int],
    seconds: float | None,
    tokens: int | None,
    rounds: int,
) -> Plan:
    """The arguments of `bench`, with its defaults. Raises ValueError for what cannot work."""
    listed = [targets] if isinstance(targets, (str, Path)) else list(targets)
    found = tuple(find_target(target) for target in dict.fromkeys(map(str, listed)))
    if not found:
        raise ValueError("no target to time; an artifact, an export or a checkpoint would work")
    longest = min(target.frontend.rules().most_tokens for target in found)
    written = min(_TOKENS, longest) if tokens is None else tokens
    check_counts(threads=min(threads, default=0), tokens=written, rounds=rounds)
    work = seconds if seconds is not None else min(default_workload(target.frontend).seconds for target in found)
    if tokens is not None and all(target.frontend.rules().by_frames for target in found):
        raise ValueError(f"tokens={tokens} has no effect: every target is a CTC model, which writes none; leave it out")
    for target in found:
        target.frontend.check_seconds(work, f"noise of {work:g} s")
        if written > (most := target.frontend.rules().most_tokens):
            raise ValueError(f"{target.name} writes {most} tokens at most, and {written} are asked for")
    return Plan(found, tuple(dict.fromkeys(threads)), work, written)


def check_counts(**counts: int) -> None:
    """Raise ValueError for a count that is below one."""
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}={value}: 1 or more would work")


def _clip(targets: Sequence[Target]) -> Path | None:
    """Speech that fits into the shortest window, and so into all; None if it is shorter than any clip."""
    clips = min((fitting_speech(target.frontend) for target in targets), key=len)
    return Path(clips[0].audio) if clips else None


def _in_turn(
    contenders: Sequence[Contender], threads: int, seconds: float, tokens: int, clip: Path | None, steps: Iterable[Any]
) -> list[Speed]:
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(each, threads, seconds, tokens)) for each in contenders]
        texts = [worker.hear(clip) for worker in workers]
        rounds = [[worker.time() for worker in workers] for _ in steps][1:]
    return [
        _speed(worker, [each[place] for each in rounds], [each[0] for each in rounds], texts[0], texts[place])
        for place, worker in enumerate(workers)
    ]


def _speed(worker: "_Worker", own: list[Times], first: list[Times], expected: str, heard: str) -> Speed:
    ratios = [mine.whole / theirs.whole for mine, theirs in zip(own, first, strict=True)]
    return Speed(
        worker.contender.name,
        worker.threads,
        worker.contender.bytes,
        worker.load,
        1000 * median(each.encoder for each in own),
        1000 * median(each.first for each in own),
        1000 * median(each.rest for each in own) / max(1, worker.tokens - 1),
        worker.seconds / median(each.whole for each in own),
        (median(ratios), min(ratios), max(ratios)),
        worker.peak_mb,
        len(expected.split()),
        align(expected, heard).errors,
    )


class _Worker:
    """A process of sottovoce.timing.stopwatch."""

    def __init__(self, contender: Contender, threads: int, seconds: float, tokens: int) -> None:
        self.contender, self.threads, self.seconds, self.tokens = contender, threads, seconds, tokens
        self.load = self.peak_mb = 0.0

    def __enter__(self) -> "_Worker":
        job = json.dumps(asdict(self.contender.job(self.threads, self.seconds, self.tokens)))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sottovoce.timing.stopwatch", job],
            env={**os.environ, **self.contender.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.load = self._answer()["load"]
        return self

    def hear(self, clip: Path | None) -> str:
        """The text of a clip, nothing without one."""
        return str(self._ask(f"hear {clip}")["text"]) if clip else ""

    def time(self) -> Times:
        """One round."""
        answer = self._ask("time")
        self.peak_mb = answer.pop("peak_mb")
        return Times(**answer)

    def _ask(self, command: str) -> dict[str, Any]:
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
            raise ValueError(f"{self.contender.name} could not be run with {self.threads} threads: {told}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
