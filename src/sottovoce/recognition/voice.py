"""Voice activity detection: how likely speech is in each 32 ms, by Silero VAD 6 (16 kHz) in NumPy.

Silero Team, "Silero VAD: pre-trained enterprise-grade Voice Activity Detector", 2020 to 2026,
https://github.com/snakers4/silero-vad, release 6.2.3, MIT licence (silero_vad.LICENSE). silero_vad_16k.safetensors has
the weights of its ONNX file for 16 kHz (tools/silero_vad.py). The magnitudes of a short-time Fourier transform go
through four convolutions, an LSTM and one neuron. Only the LSTM has a memory, so the rest is computed for many chunks
at once.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

Floats = npt.NDArray[np.float32]

RATE = 16_000  # Hz
CHUNK = 512  # samples, of which each has a probability
CONTEXT = 64  # samples before a chunk that are seen with it
_FRAME, _HOP, _MIRRORED = 256, 128, 64  # samples; the last are the chunk's end, mirrored
_TOGETHER = 256  # chunks, so that what lies between two layers stays in the processor's cache
_UNITS = 128


class Voice:
    """Hears a recording block by block, and gives the probability of speech for each of its chunks in order."""

    def __init__(self) -> None:
        self._weights = _weights()
        self._context: Floats = np.zeros(CONTEXT, np.float32)
        self._left: Floats = np.zeros(0, np.float32)
        self._hidden: Floats = np.zeros(_UNITS, np.float32)
        self._cell: Floats = np.zeros(_UNITS, np.float32)

    def probabilities(self, samples: Floats) -> Floats:
        """The probability of speech in each chunk of 512 samples that is complete now, the next ones in order.

        samples  (n,) float32 at 16 kHz, full scale is 1: what follows what was given before, of any length
        returns  (chunks,) float32; what is left of less than a chunk waits for the next samples
        """
        samples = np.concatenate([self._left, samples.astype(np.float32, copy=False)])
        whole = len(samples) // CHUNK * CHUNK
        self._left = samples[whole:].copy()
        step = _TOGETHER * CHUNK
        parts = [self._chunks(samples[at : min(at + step, whole)]) for at in range(0, whole, step)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def rest(self) -> Floats:
        """The probability of the last chunk, which is filled up with zeros, where the recording ends within one."""
        return self.probabilities(np.zeros(-len(self._left) % CHUNK, np.float32))

    def _chunks(self, samples: Floats) -> Floats:
        weights = self._weights
        seen = np.concatenate([self._context, samples])
        self._context = seen[-CONTEXT:].copy()
        encoded = _encoded(_with_context(seen), weights)
        outputs = self._remembered(encoded @ weights.input + weights.bias)
        return _sigmoid(np.maximum(outputs, 0) @ weights.neuron + weights.neuron_bias)

    def _remembered(self, inputs: Floats) -> Floats:
        """The LSTM's outputs (chunks, 128) for what its gates get (chunks, 512) from the layer before.

        sigmoid(x) = (1 + tanh(x / 2)) / 2, so all gates need one tanh; the halves are in the weights.
        """
        hidden, cell = self._hidden, self._cell
        outputs: Floats = np.empty((len(inputs), _UNITS), np.float32)
        for chunk, given in enumerate(inputs):
            gates = np.tanh(given + self._weights.recurrent @ hidden)
            opened = 0.5 * gates[: 3 * _UNITS] + 0.5
            cell = opened[_UNITS : 2 * _UNITS] * cell + opened[:_UNITS] * gates[3 * _UNITS :]
            outputs[chunk] = hidden = opened[2 * _UNITS :] * np.tanh(cell)
        self._hidden, self._cell = hidden, cell
        return outputs


class _Weights(NamedTuple):
    """The file's, laid out for products of many rows.

    transform   (256, 258) cosines, then sines, windowed
    layers      kernel (3 inputs, outputs), bias (outputs), stride
    input       (128, 512), recurrent (512, 128), bias (512): gates in, forget, out, halved, and then the cell's input
    """

    transform: Floats
    layers: tuple[tuple[Floats, Floats, int], ...]
    input: Floats
    recurrent: Floats
    bias: Floats
    neuron: Floats
    neuron_bias: np.float32


@cache
def _weights() -> _Weights:
    file = load(resources.files("sottovoce.recognition").joinpath("silero_vad_16k.safetensors").read_bytes())
    layers = []
    for number, stride in enumerate((1, 2, 2, 1), start=1):
        kernel = file[f"conv{number}.weight"]  # (outputs, inputs, 3)
        layers.append((_rows(kernel.transpose(2, 1, 0).reshape(-1, len(kernel))), file[f"conv{number}.bias"], stride))
    return _Weights(
        _rows(file["stft_conv.weight"][:, 0].T),
        tuple(layers),
        _rows(_gates(file["lstm_cell.weight_ih"]).T),
        _rows(_gates(file["lstm_cell.weight_hh"])),
        _gates(file["lstm_cell.bias_ih"] + file["lstm_cell.bias_hh"]),
        file["final_conv.weight"][0, :, 0],
        file["final_conv.bias"][0],
    )


def _gates(weight: Floats) -> Floats:
    """In, forget, cell, out, as PyTorch has them, to in, forget, out, each halved, and cell."""
    opens, forgets, cell, out = np.split(weight, 4)
    return np.concatenate([opens / 2, forgets / 2, out / 2, cell])


def _rows(matrix: Floats) -> Floats:
    return np.ascontiguousarray(matrix)


def _with_context(seen: Floats) -> Floats:
    """(chunks, 640) of samples that begin with the context: each chunk after its context, its end mirrored."""
    rows = np.lib.stride_tricks.sliding_window_view(seen, CONTEXT + CHUNK)[::CHUNK]
    return np.concatenate([rows, rows[:, -2 : -2 - _MIRRORED : -1]], axis=1)


def _encoded(rows: Floats, weights: _Weights) -> Floats:
    """(chunks, 640) samples -> (chunks, 128): four frames each, which two strides of two make one."""
    frames = np.lib.stride_tricks.sliding_window_view(rows, _FRAME, axis=1)[:, ::_HOP]  # (chunks, 4, 256)
    parts = frames.reshape(-1, _FRAME) @ weights.transform
    real, imaginary = np.split(parts, 2, axis=1)
    layer = np.sqrt(real * real + imaginary * imaginary).reshape(len(rows), -1, real.shape[1])
    for kernel, bias, stride in weights.layers:
        layer = _convolved(layer, kernel, bias, stride)
    return layer[:, 0]


def _convolved(layer: Floats, kernel: Floats, bias: Floats, stride: int) -> Floats:
    """(chunks, times, inputs) -> (chunks, times / stride, outputs): three taps, one zero before and one behind."""
    times = layer.shape[1]
    padded = np.pad(layer, ((0, 0), (1, 1), (0, 0)))
    taps = np.concatenate([padded[:, tap : tap + times : stride] for tap in range(3)], axis=2)
    return np.maximum(taps @ kernel + bias, 0)


def _sigmoid(x: Floats) -> Floats:
    return np.float32(0.5) + np.float32(0.5) * np.tanh(x / 2)
