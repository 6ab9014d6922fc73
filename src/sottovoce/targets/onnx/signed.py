"""The weights of DynamicQuantizeMatMul as signed bytes, where this CPU multiplies unsigned by signed bytes exactly.

A file holds them unsigned, which every kernel of ONNX Runtime multiplies exactly. Signed ones take half the time on a
CPU with a dot product of bytes (AVX-512 VNNI, AVX-VNNI, AMX), and are wrong on an x86 CPU without one: vpmaddubsw adds
two products of an unsigned and a signed byte in 16 bits, and saturates. So the engine asks by a product, and turns the
weights as it loads them.
"""

from functools import cache

import numpy as np

from sottovoce.targets.onnx.graph import (
    INITIALIZER,
    INPUT,
    INT8,
    NAME,
    NODE,
    OPERATOR,
    RAW,
    TYPE,
    UINT8,
    Field,
    one_product,
    parts,
    texts,
)

_HIGHEST = 0x80  # the bit that turns a level into a level less 128, and back


@cache
def exact_here() -> bool:
    """Whether this CPU's product of unsigned and signed bytes is that of the integers."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(one_product(), options, providers=["CPUExecutionProvider"])
    x = np.repeat(np.array([[255], [0]], np.uint8), 64, 1)  # 0 is -128 to kernels that multiply signed by signed bytes
    w = np.repeat(np.array([[127, -128]], np.int8), 64, 0)
    [told] = session.run(None, {"x": x, "w": w})
    return np.array_equal(told, x.astype(np.int32) @ w.astype(np.int32))


def fit_for_here(model: bytes) -> bytes:
    """A graph with the weights of DynamicQuantizeMatMul as this CPU multiplies them exactly and, if it can, fast."""
    return turned(model, INT8 if exact_here() else UINT8)


def turned(model: bytes, kind: int) -> bytes:
    """A graph whose weights and zeros of DynamicQuantizeMatMul are INT8 or UINT8, and stand for the same numbers."""
    made = bytearray(model)
    levels = np.frombuffer(made, np.uint8)
    for found, raw in weights(model):
        if model[found.start] != kind:
            made[found.start] = kind
            levels[raw.start : raw.end] ^= _HIGHEST
    return bytes(made)


def weights(model: bytes) -> list[tuple[Field, Field]]:
    """Where the type and the bytes are of each weight, and each zero, of DynamicQuantizeMatMul.

    Raises ValueError for what is no graph.
    """
    read: set[str] = set()
    for node in parts(model, NODE):
        if texts(model, node, OPERATOR) == ["DynamicQuantizeMatMul"]:
            inputs = texts(model, node, INPUT)
            read |= {inputs[1], *inputs[3:4]}
    tensors = [tensor for tensor in parts(model, INITIALIZER) if texts(model, tensor, NAME)[0] in read]
    return [(tensor[TYPE][0], tensor[RAW][0]) for tensor in tensors]
