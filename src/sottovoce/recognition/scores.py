"""Logits as scores to choose tokens by."""

from collections.abc import Sequence

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(n, vocabulary) float32: log-probabilities; minus infinity stays what it is."""
    shifted = logits - logits.max(-1, keepdims=True)
    made: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return made


def likeliest(logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """(n,) int64: of some tokens the likeliest by each row of (n, vocabulary)."""
    candidates = np.array(tokens, np.int64)
    return np.asarray(candidates[logits[:, candidates].argmax(-1)])


def without(logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """A copy of (n, vocabulary) with minus infinity for some tokens."""
    made = logits.copy()
    made[:, list(tokens)] = -np.inf
    return made
