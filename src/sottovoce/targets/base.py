"""What every engine does, and what a runtime is that a model can be exported to."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.models.bounds import Bounds
from sottovoce.models.decoding import Decoded, DecodingRules
from sottovoce.progress import Track
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer


class Memory(Protocol):
    """What an encoder leaves of some clips for the decoder."""

    @property
    def count(self) -> int:
        """Clips, before it is branched."""

    @property
    def device(self) -> torch.device:
        """Where the decoder's tokens should lie."""


class OneClip:
    """A Memory of one clip on the CPU; what it holds is a runtime's own affair."""

    @property
    def count(self) -> int:
        """One."""
        return 1

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")


class Engine(Protocol):
    """Something that runs an encoder and a decoder."""

    @property
    def together(self) -> int | None:
        """How many clips it takes at once; any number if None."""

    @property
    def own_threads(self) -> bool:
        """Whether it computes in threads of its own, and not in torch's."""

    def encode(self, features: Sequence[Tensor]) -> Any:
        """Features of some clips, each (1, ...), to their Memory."""

    def step(self, tokens: Tensor, memory: Any, cache: Any) -> tuple[Tensor, Any]:
        """Feed tokens (n, k) after those in the cache (None at the start): logits (n, vocabulary) of what follows.

        The cache that is given is used up.
        """

    def outputs(self, memory: Any) -> Mapping[str, Tensor]:
        """What the encoder put out for one clip, as far as the runtime tells: by name, (frames, channels) float32.

        "encoder" is its last state, "cross.0.key" and "cross.0.value" what the first block of the decoder makes of it.
        """

    def branch(self, memory: Any, cache: Any, parents: Tensor) -> tuple[Any, Any]:
        """Memory and cache of other rows, for the next step: row i is what row parents[i] was.

        parents (m,) int64 may repeat rows, change their order and leave some out. The memory and the cache that are
        given are used up.
        """


@dataclass(frozen=True)
class WriteOptions:
    """What an export may be asked beside the runtime.

    seconds   of audio that memory is planned for, where a model takes any length; a window is shortened before
    portable  products that may be left to slow kernels, by name
    """

    seconds: float | None = None
    portable: tuple[str, ...] = ()


class WholeEngine(ABC):
    """Something that runs an encoder and searches on its own, because it gives no logits away."""

    together: int | None
    own_threads = True

    @abstractmethod
    def encode(self, features: Sequence[Tensor]) -> Any:
        """As Engine's."""

    @abstractmethod
    def decode(self, memory: Any, rules: DecodingRules) -> list[Decoded]:
        """The likeliest token at each step for each clip of `memory`, under the rules, until all have ended."""

    @abstractmethod
    def outputs(self, memory: Any) -> Mapping[str, Tensor]:
        """As Engine's."""

    @abstractmethod
    def logits(self, prompt: Sequence[int], tokens: Sequence[int], memory: Any) -> Tensor:
        """(tokens + 1, vocabulary): logits after the prompt of one clip and after each token, up to a constant each."""


class Runtime(ABC):
    """Two halves of one format: what writes a model's files, and the engine that runs them.

    title     as its makers write it
    packages  the packages that writing needs, each with the version that it was tested with, as "1.31"
    runs_on   those of them that running needs
    files     the files that it opens
    grid      options of a grid that a recipe with this target has where it says nothing else
    options   the fields of WriteOptions that it takes
    greedy_only  whether its engine is a WholeEngine
    rounds_activations  whether what a layer of integers reads is rounded in the runtime's own way
    tells     what of a model's inside a self-test can be held against its artifact's: "encoder", its last state,
              "cross", what the decoder's blocks make of that, "blocks", what each block puts out
    tolerance  how far an output may be off, relative to its norm, where nothing is rounded to integers
    """

    title: str
    packages: Mapping[str, str]
    runs_on: tuple[str, ...]
    files: tuple[str, ...]
    grid: Mapping[str, str] = MappingProxyType({})
    options: frozenset[str] = frozenset()
    greedy_only: bool = False
    rounds_activations: bool
    tells: frozenset[str] = frozenset()
    tolerance: float = 0.002  # float16 holds what is expected to 0.0003, and sums of float32 differ by less

    @abstractmethod
    def refusals(self, entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> Mapping[str, str]:
        """The modules that it cannot hold as they are, each with the reason; told from the table alone."""

    @abstractmethod
    def notes(self, entries: Sequence[Entry]) -> Sequence[str]:
        """What it holds, but not as small, as fast or as exactly as the artifact."""

    def rounding(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """How it rounds the vectors (..., in) that a layer multiplies; None where it multiplies floats."""
        return None

    def stored(self, layer: Layer) -> Iterable[Sequence[bytes]]:
        """The bytes that its files hold for a layer of integers: each part in one of the forms that it may have."""
        return ()

    def bounds(self, model: SpeechModel, options: WriteOptions) -> Bounds:
        """The clips that an export will hear: the model's own bounds."""
        return model.bounds

    @abstractmethod
    def write(
        self, model: SpeechModel, layers: Mapping[str, Layer], folder: Path, options: WriteOptions, track: Track
    ) -> None:
        """Write `files` of a model that holds `layers`; the model is used up.

        config.json and the other companions of the checkpoint lie in `folder`: a runtime may add to them.
        """

    @abstractmethod
    def open(self, folder: Path, threads: int | None) -> Engine | WholeEngine:
        """The engine for such a folder. threads: of one operator; as many as torch uses if None."""

    def telling(self, folder: Path, threads: int | None) -> Engine | None:
        """The engine with more outputs, those of each block, to find where two models part; None if there is none."""
        return None

    def saturates(self, folder: Path) -> bool:
        """Whether sums of 8-bit products that it needs for such a folder saturate on this CPU, and so are wrong."""
        return False
