"""Logits as scores to choose tokens by."""

from collections.abc import Sequence

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(n, vocabulary) float32: log-probabilities; minus infinity stays what it is."""
    shifted = logits - logits.max(-1, keepdims=True)
    made: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return made


def without(logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """A copy of (n, vocabulary) with minus infinity for some tokens."""
    made = logits.copy()
    made[:, list(tokens)] = -np.inf
    return made
