"""What every engine does, in NumPy, so that a search and a runtime meet without torch; and what opens one.

Tokens are int64 and logits float32.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sottovoce.models.decoding import Decoded, DecodingRules


class Memory(Protocol):
    """What an encoder leaves of some clips for the decoder."""

    @property
    def count(self) -> int:
        """Clips, before it is branched."""


class OneClip:
    """A Memory of one clip; what it holds is a runtime's own affair."""

    @property
    def count(self) -> int:
        """One."""
        return 1


class Engine(Protocol):
    """Something that runs an encoder and a decoder."""

    @property
    def together(self) -> int | None:
        """How many clips it takes at once; any number if None."""

    def encode(self, features: Sequence[np.ndarray]) -> Any:
        """Features of some clips, each (1, ...) float32, to their Memory."""

    def step(self, tokens: np.ndarray, memory: Any, cache: Any) -> tuple[np.ndarray, Any]:
        """Feed tokens (n, k) after those in the cache (None at the start): logits (n, vocabulary) of what follows.

        The cache that is given is used up.
        """

    def outputs(self, memory: Any) -> Mapping[str, np.ndarray]:
        """What the encoder put out for one clip, as far as the runtime tells: by name, (frames, channels) float32.

        "encoder" is its last state, "cross.0.key" and "cross.0.value" what the first block of the decoder makes of it.
        """

    def branch(self, memory: Any, cache: Any, parents: np.ndarray) -> tuple[Any, Any]:
        """Memory and cache of other rows, for the next step: row i is what row parents[i] was.

        parents (m,) int64 may repeat rows, change their order and leave some out. The memory and the cache that are
        given are used up.
        """


@runtime_checkable
class FrameEngine(Protocol):
    """Something that runs an encoder whose every frame scores the tokens (CTC)."""

    @property
    def together(self) -> int | None:
        """As Engine's."""

    def encode(self, features: Sequence[np.ndarray]) -> Any:
        """As Engine's."""

    def frame_logits(self, memory: Any) -> list[np.ndarray]:
        """Of each clip, (frames, vocabulary) float32."""

    def outputs(self, memory: Any) -> Mapping[str, np.ndarray]:
        """As Engine's, and what each block puts out, as far as the runtime tells."""


@runtime_checkable
class AtOnce(Protocol):
    """An engine that can also be fed all tokens at once, and then tells what every block puts out."""

    def at_once(self, features: np.ndarray, tokens: Sequence[int]) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """Of one clip: what encoder and decoder put out, in their order, and logits (tokens or frames, vocabulary).

        By name as Engine.outputs, and "encoder.layers.0", "decoder.layers.0" (frames or tokens, channels).
        """


@runtime_checkable
class Attentive(Protocol):
    """An engine that also tells where in a clip its decoder looks."""

    def attention(self, memory: Any, place: int, tokens: Sequence[int]) -> list[np.ndarray]:
        """Of each block's cross-attention (heads, tokens, frames) float32: what each head looks at, for each token fed.

        memory  as `encode` gave it, also if a search has used it; place says which of its clips

        Each row sums to 1. Frames behind the clip's own may be there.
        """


@runtime_checkable
class Cutting(Engine, Protocol):
    """An Engine that can also take back tokens that it was fed."""

    def cut(self, cache: Any, length: int) -> Any:
        """A step's cache as it was after `length` tokens, of those that it was fed. The one that is given is used up.

        Keys and values are of one token each, so what stays is to the last bit what it was.
        """


@runtime_checkable
class Verifying(Cutting, Protocol):
    """An Engine that can also tell what follows each of several tokens in one step (speculative.py)."""

    @property
    def closeness(self) -> float | None:
        """How far logits of `steps` may be from those of `step`, relative to the largest of a row; None: any way off.

        A product of several rows is summed in another order than that of one row, so the two are hardly ever equal.
        Where the decoder rounds its activations at run time, such a difference may move one to the next level.
        """

    def steps(self, tokens: np.ndarray, memory: Any, cache: Any) -> tuple[np.ndarray, Any]:
        """As `step`, with the logits (n, k, vocabulary) of what follows each of the tokens (n, k) that are fed."""


@runtime_checkable
class SharedEncoder(Protocol):
    """An Engine that can also tell whether what it encodes is what another one would."""

    def encodes_as(self, other: Any) -> bool:
        """Whether another engine's encoder is the same to the last bit, so that one memory serves both decoders."""


class WholeEngine(ABC):
    """Something that runs an encoder and searches on its own, because it gives no logits away."""

    together: int | None

    @abstractmethod
    def encode(self, features: Sequence[np.ndarray]) -> Any:
        """As Engine's."""

    @abstractmethod
    def decode(self, memory: Any, rules: DecodingRules) -> list[Decoded]:
        """The likeliest token at each step for each clip of `memory`, under the rules, until all have ended."""

    @abstractmethod
    def outputs(self, memory: Any) -> Mapping[str, np.ndarray]:
        """As Engine's."""

    @abstractmethod
    def logits(self, prompt: Sequence[int], tokens: Sequence[int], memory: Any) -> np.ndarray:
        """(tokens + 1, vocabulary): logits after the prompt of one clip and after each token, up to a constant each."""


AnyEngine = Engine | WholeEngine | FrameEngine


def _never(folder: Path) -> bool:
    return False


@dataclass(frozen=True)
class EngineKind:
    """The half of a runtime that runs an exported folder; the half that writes one is a Runtime.

    title     as its makers write it
    packages  what it needs, each with the release that it was tested with, as "1.31"; first the runtime itself
    files     those that it opens, as many of them as a kind of model has
    open      the engine for such a folder, with so many threads of one operator; `default_threads()` if None
    telling   the engine with more outputs, those of each block, to find where two models part; None if there is none
    saturates    whether sums of 8-bit products that it needs for such a folder saturate on this CPU, and so are wrong
    greedy_only  whether its engine is a WholeEngine
    tolerance    how far an output may be off, relative to its norm, where nothing is rounded to integers
    """

    title: str
    packages: Mapping[str, str]
    files: tuple[str, ...]
    open: Callable[[Path, int | None], AnyEngine]
    telling: Callable[[Path, int | None], Engine | FrameEngine] | None = None
    saturates: Callable[[Path], bool] = _never
    greedy_only: bool = False
    tolerance: float = 0.002  # float16 holds what is expected to 0.0003, and sums of float32 differ by less

    def opened(self, folder: Path) -> list[Path]:
        """Those of `files` that a folder has."""
        return [folder / name for name in self.files if (folder / name).is_file()]
