"""The two verbs of every engine, whatever runs below them."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from sottovoce.models.structure import Encoded


class Engine(Protocol):
    """Something that runs an encoder and a decoder."""

    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """Features of some clips, each (1, ...), to their encoder outputs."""

    def step(self, tokens: Tensor, memory: Encoded, cache: Any) -> tuple[Tensor, Any]:
        """Feed tokens (n, k) after those in the cache (None at the start): logits (n, vocabulary) of what follows."""
