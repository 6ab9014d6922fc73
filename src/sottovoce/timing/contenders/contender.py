"""What `bench` times: something that loads, transcribes and is timed, and what its process is told.

Our own targets and every peer are a Timed; the process (stopwatch.py) knows nothing else of them. Nothing here imports
torch: a peer that needs none runs without it, and its memory is its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Job:
    """What one process is told.

    runs     "module:Class", a Timed made of this job
    model    what it opens
    prompt   tokens before the first that is written; None marks the language, which is detected when it transcribes
    end      tokens that end a transcript, never written while it is timed
    most     tokens written at most when it transcribes
    threads, seconds (of noise), tokens (written)
    """

    runs: str
    model: str
    prompt: Sequence[int | None]
    end: Sequence[int]
    most: int
    threads: int
    seconds: float
    tokens: int

    def noise(self, rate: int) -> npt.NDArray[np.float32]:
        """(samples,) at `rate` Hz, the same for all."""
        return np.random.default_rng(0).normal(0, 0.1, round(self.seconds * rate)).astype(np.float32)


@dataclass(frozen=True)
class Contender:
    """One line of the bench: its name there, the bytes of its weights, what a Job says of it, its environment."""

    name: str
    bytes: int
    runs: str
    model: str
    prompt: Sequence[int | None]
    end: Sequence[int]
    most: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def job(self, threads: int, seconds: float, tokens: int) -> Job:
        """What its process is told."""
        return Job(self.runs, self.model, self.prompt, self.end, self.most, threads, seconds, tokens)


@dataclass(frozen=True)
class Times:
    """Seconds of the encoder, of the first token after it, and of all that follow."""

    encoder: float
    first: float
    rest: float

    @property
    def whole(self) -> float:
        """All three."""
        return self.encoder + self.first + self.rest


class Timed(Protocol):
    """A model in a process of its own."""

    def __init__(self, job: Job) -> None: ...

    def load(self) -> None:
        """Open the model, so that it could transcribe at once."""

    def hear(self, clip: str) -> str:
        """The text of an audio file, greedy, by the checkpoint's own rules."""

    def time(self) -> Times:
        """Encode the job's noise and write just as many tokens as it says, whatever they are."""
