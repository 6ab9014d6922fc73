"""What every engine does, and what a runtime is that a model can be exported to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.path_table import TurnEntry
from sottovoce.progress import Track
from sottovoce.table import Entry
from sottovoce.weight import Layer


class Memory(Protocol):
    """What an encoder leaves of some clips for the decoder."""

    @property
    def count(self) -> int:
        """Clips, before it is branched."""

    @property
    def device(self) -> torch.device:
        """Where the decoder's tokens should lie."""


class Engine(Protocol):
    """Something that runs an encoder and a decoder."""

    @property
    def together(self) -> int | None:
        """How many clips it takes at once; any number if None."""

    def encode(self, features: Sequence[Tensor]) -> Any:
        """Features of some clips, each (1, ...), to their Memory."""

    def step(self, tokens: Tensor, memory: Any, cache: Any) -> tuple[Tensor, Any]:
        """Feed tokens (n, k) after those in the cache (None at the start): logits (n, vocabulary) of what follows.

        The cache that is given is used up.
        """

    def branch(self, memory: Any, cache: Any, parents: Tensor) -> tuple[Any, Any]:
        """Memory and cache of other rows, for the next step: row i is what row parents[i] was.

        parents (m,) int64 may repeat rows, change their order and leave some out. The memory and the cache that are
        given are used up.
        """


class Runtime(Protocol):
    """Two halves of one format: what writes a model's files, and the engine that runs them.

    title     as its makers write it
    packages  the packages that writing needs, each with the version that it was tested with, as "1.31"
    runs_on   those of them that running needs
    files     the files that it writes
    rounds_activations  whether what a layer of integers reads is rounded in the runtime's own way
    """

    title: str
    packages: Mapping[str, str]
    runs_on: tuple[str, ...]
    files: tuple[str, ...]
    rounds_activations: bool

    def refusals(self, entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> Mapping[str, str]:
        """The modules that it cannot hold as they are, each with the reason; told from the table alone."""

    def notes(self, entries: Sequence[Entry]) -> Sequence[str]:
        """What it holds, but not as small, as fast or as exactly as the artifact."""

    def write(self, model: SpeechModel, layers: Mapping[str, Layer], folder: Path, track: Track) -> None:
        """Write `files` of a model that holds `layers`; the model is used up."""

    def open(self, folder: Path, threads: int | None) -> Engine:
        """The engine for such a folder. threads: of one operator; as many as torch uses if None."""
