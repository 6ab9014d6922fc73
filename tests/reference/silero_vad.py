"""Silero VAD the slow and obvious way: chunk after chunk, frame after frame, tap after tap."""

from collections.abc import Mapping

import numpy as np


def probabilities(samples: np.ndarray, weights: Mapping[str, np.ndarray]) -> list[float]:
    """The probability of speech in each 512 samples at 16 kHz, the last of them filled up with zeros."""
    weights = {name: weight.astype(float) for name, weight in weights.items()}
    padded = [0.0] * 64 + [float(sample) for sample in samples] + [0.0] * (-len(samples) % 512)
    hidden, cell, found = np.zeros(128), np.zeros(128), []
    for start in range(0, len(padded) - 64, 512):
        seen = padded[start : start + 64 + 512]
        mirrored = [seen[-2 - place] for place in range(64)]
        layer = magnitudes(np.array(seen + mirrored), weights["stft_conv.weight"][:, 0])
        for number, stride in enumerate((1, 2, 2, 1), start=1):
            layer = convolved(layer, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"], stride)
        (only,) = layer
        gates = weights["lstm_cell.weight_ih"] @ only + weights["lstm_cell.bias_ih"]
        gates = gates + weights["lstm_cell.weight_hh"] @ hidden + weights["lstm_cell.bias_hh"]
        into, forget, new, out = gates[:128], gates[128:256], gates[256:384], gates[384:]
        cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(new)
        hidden = sigmoid(out) * np.tanh(cell)
        found.append(
            sigmoid(weights["final_conv.weight"][0, :, 0] @ np.maximum(hidden, 0) + weights["final_conv.bias"])
        )
    return [float(probability[0]) for probability in found]


def magnitudes(samples: np.ndarray, basis: np.ndarray) -> list[np.ndarray]:
    frames = [samples[start : start + 256] for start in (0, 128, 256, 384)]
    return [np.array([np.hypot(basis[k] @ frame, basis[129 + k] @ frame) for k in range(129)]) for frame in frames]


def convolved(layer: list[np.ndarray], kernel: np.ndarray, bias: np.ndarray, stride: int) -> list[np.ndarray]:
    made = []
    for middle in range(0, len(layer), stride):
        total = bias.copy()
        for tap in (0, 1, 2):
            if 0 <= middle + tap - 1 < len(layer):
                total += kernel[:, :, tap] @ layer[middle + tap - 1]
        made.append(np.maximum(total, 0))
    return made


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
