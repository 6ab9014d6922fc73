"""The weights of the voice activity detection, from Silero's ONNX file: `python -m tools.silero_vad ONNX SAFETENSORS`.

ONNX is silero_vad/data/silero_vad_16k_op15.onnx of the package silero-vad 6.2.3. The safetensors file beside it there
holds the weights of another release: its probabilities differ by up to 0.9.
"""

import sys
from pathlib import Path

import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

NAMES = {
    "stft.forward_basis_buffer": "stft_conv.weight",
    **{f"encoder.{at}.reparam_conv.{part}": f"conv{at + 1}.{part}" for at in range(4) for part in ("weight", "bias")},
    **{f"decoder.rnn.{part}": f"lstm_cell.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    **{f"decoder.decoder.2.{part}": f"final_conv.{part}" for part in ("weight", "bias")},
}


def extract(source: Path, target: Path) -> None:
    """Write the weights under the names of Silero's own safetensors file. Raises KeyError where one is not there."""
    there = {tensor.name.removeprefix("model."): tensor for tensor in onnx.load(source).graph.initializer}
    tensors = {name: numpy_helper.to_array(there[found]).copy() for found, name in NAMES.items()}
    save_file(tensors, target, {"source": "silero-vad 6.2.3, silero_vad_16k_op15.onnx", "licence": "MIT"})


if __name__ == "__main__":
    extract(*map(Path, sys.argv[1:]))
