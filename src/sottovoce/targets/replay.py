"""Engines whose program holds one cache that cannot be copied: a row of it is the tokens that it was made of.

What the program holds already of a row is not fed again; another row is made anew from where the two part. So beams
cost what they do not share.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

Fed = tuple[int, ...]


class ReplayEngine(ABC):
    """Both of an Engine's verbs around a program that is fed tokens at places, one clip at a time."""

    together = 1

    def __init__(self) -> None:
        self._heard: Any = None  # the memory whose tokens the program holds
        self._fed: Fed = ()

    @abstractmethod
    def encode(self, features: Sequence[np.ndarray]) -> Any:
        """One clip's features (1, ...)."""

    @abstractmethod
    def feed(self, tokens: Fed, place: int, memory: Any) -> np.ndarray:
        """Feed tokens from a place on, behind those that are held: logits (1, vocabulary) of what follows the last."""

    def step(self, tokens: np.ndarray, memory: Any, cache: list[Fed] | None) -> tuple[np.ndarray, list[Fed]]:
        """(n, k) tokens after those of each row: logits (n, vocabulary) of what follows the last."""
        before: list[Fed] = [()] * len(tokens) if cache is None else cache
        rows = [(*held, *row) for held, row in zip(before, tokens.tolist(), strict=True)]
        return np.concatenate([self._logits(row, memory) for row in rows]), rows

    def branch(self, memory: Any, cache: list[Fed], parents: np.ndarray) -> tuple[Any, list[Fed]]:
        """Rows are tokens, so nothing is copied."""
        return memory, [cache[parent] for parent in parents.tolist()]

    def cut(self, cache: list[Fed], length: int) -> list[Fed]:
        """As Cutting's; the program goes back when it is fed again."""
        return [row[:length] for row in cache]

    def forget(self) -> None:
        """What the program holds is worth nothing any more."""
        self._heard, self._fed = None, ()

    def _logits(self, wanted: Fed, memory: Any) -> np.ndarray:
        shared = self._shared(wanted) if memory is self._heard else 0
        self._heard, self._fed = memory, wanted[:shared]
        logits = self.feed(wanted[shared:], shared, memory)
        self._fed = wanted
        return logits

    def _shared(self, wanted: Fed) -> int:
        """Tokens at the beginning of `wanted` that are held; never the last, whose logits are asked for."""
        most = min(len(wanted) - 1, len(self._fed))
        return next((i for i in range(most) if wanted[i] != self._fed[i]), most)
