"""Whether CTranslate2's products of 8-bit integers are exact on this CPU: asked by an encoder of one layer.

On an x86 CPU without VNNI its libraries (oneDNN, and MKL on Intel's) add products of unsigned and signed bytes in 16
bits. Two of the largest are more than these hold, so that sums of large weights come out too small.
"""

from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

WIDTH = 64
_LARGEST = 127


@cache
def exact_here() -> bool:
    """Whether a row of the largest weights times the largest inputs is more than a row with every second weight zero.

    It is twice as much. In 16 bits it is nearly nothing: inputs are shifted to 0 .. 255, two products are cut from
    64770 to 32767, and then the shift is taken away again, which makes 32512 of it.
    """
    import ctranslate2

    with TemporaryDirectory() as folder:
        _encoder(ctranslate2).save(folder)
        found = ctranslate2.Encoder(folder, compute_type="int8", intra_threads=1).forward_batch([["a"]])
    [[states]] = np.array(found.last_hidden_state)
    return bool(states[1] > states[0])


def _encoder(library: Any) -> Any:
    """Adds to zeros what a feed-forward layer makes of ones; its last norm keeps which of its outputs are larger."""
    specs = library.specs
    layers = specs.TransformerEncoderSpec(1, 1, pre_norm=True, activation=specs.common_spec.Activation.RELU)
    [layer] = layers.layer
    weight = np.full((WIDTH, WIDTH), _LARGEST, np.int8)
    weight[::2, ::2] = 0
    zeros, eye = np.zeros((3 * WIDTH, WIDTH), np.float32), np.eye(WIDTH, dtype=np.float32)
    attention, forward = layer.self_attention, layer.ffn
    linears: list[Any] = [*attention.linear, forward.linear_0, forward.linear_1]
    values: list[np.ndarray] = [zeros, zeros[:WIDTH], weight, eye]
    for linear, value in zip(linears, values, strict=True):
        linear.weight, linear.bias = value, np.zeros(len(value), np.float32)
    forward.linear_0.weight_scale = np.ones(WIDTH, np.float32)
    for norm, scale, shift in ((attention.layer_norm, 0, 0), (forward.layer_norm, 0, 1), (layers.layer_norm, 1, 0)):
        norm.gamma, norm.beta = np.full(WIDTH, scale, np.float32), np.full(WIDTH, shift, np.float32)
    layers.embeddings[0].weight = zeros[:4]
    layers.position_encodings.encodings = zeros[:8]
    spec = specs.TransformerEncoderModelSpec(layers)
    spec.register_vocabulary(["<unk>", "<s>", "</s>", "a"])
    spec.validate()
    return spec
