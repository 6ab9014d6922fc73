"""The weights of DynamicQuantizeMatMul as signed bytes, where this CPU multiplies unsigned by signed bytes exactly.

A file holds them unsigned, which every kernel of ONNX Runtime multiplies exactly. Signed ones take half the time on a
CPU with a dot product of bytes (AVX-512 VNNI, AVX-VNNI, AMX), and are wrong on an x86 CPU without one: vpmaddubsw adds
two products of an unsigned and a signed byte in 16 bits, and saturates. So the engine asks by a product, and turns the
weights as it loads them.

A graph is a message of protocol buffers; the numbers of its fields are those of onnx.proto.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_INPUT, _OUTPUT, _OPERATOR = 1, 2, 4  # of a node
_TYPE, _NAME, _RAW = 2, 8, 9  # of a tensor
_UINT8, _INT8, _INT32 = 2, 3, 6
_FORMAT, _OPERATORS = 10, 21  # versions
_HIGHEST = 0x80  # the bit that turns a level into a level less 128


class _Field(NamedTuple):
    """A field's number, and where its value lies: the bytes of a message, a text or a tensor, or one number's."""

    number: int
    start: int
    end: int


@cache
def exact_here() -> bool:
    """Whether this CPU's product of unsigned and signed bytes is that of the integers."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(_product(), options, providers=["CPUExecutionProvider"])
    x = np.repeat(np.array([[255], [0]], np.uint8), 64, 1)  # 0 is -128 to kernels that multiply signed by signed bytes
    w = np.repeat(np.array([[127, -128]], np.int8), 64, 0)
    [told] = session.run(None, {"x": x, "w": w})
    return np.array_equal(told, x.astype(np.int32) @ w.astype(np.int32))


def is_signed(model: bytes) -> bool:
    """Whether any weight of DynamicQuantizeMatMul in a graph is of signed bytes, as exports of 0.1.0 hold them."""
    return any(model[kind.start] == _INT8 for kind, _ in _weights(model))


def signed(model: bytes) -> bytes:
    """The same graph; weights and zeros of DynamicQuantizeMatMul are signed bytes that stand for the same numbers."""
    turned = bytearray(model)
    levels = np.frombuffer(turned, np.uint8)
    for kind, raw in _weights(model):
        if model[kind.start] == _UINT8:
            turned[kind.start] = _INT8
            levels[raw.start : raw.end] ^= _HIGHEST
    return bytes(turned)


def _weights(model: bytes) -> list[tuple[_Field, _Field]]:
    """Where the type and the bytes are of each weight, and each zero, of DynamicQuantizeMatMul.

    Raises ValueError for what is no graph.
    """
    try:
        [graph] = (field for field in _fields(model, 0, len(model)) if field.number == _GRAPH)
        inside = list(_fields(model, graph.start, graph.end))
        read: set[bytes] = set()
        for node in (field for field in inside if field.number == _NODE):
            parts = list(_fields(model, node.start, node.end))
            [operator] = (model[part.start : part.end] for part in parts if part.number == _OPERATOR)
            if operator == b"DynamicQuantizeMatMul":
                inputs = [model[part.start : part.end] for part in parts if part.number == _INPUT]
                read |= {inputs[1], *inputs[3:4]}
        tensors = [
            {field.number: field for field in _fields(model, tensor.start, tensor.end)}
            for tensor in inside
            if tensor.number == _INITIALIZER
        ]
        return [(held[_TYPE], held[_RAW]) for held in tensors if model[held[_NAME].start : held[_NAME].end] in read]
    except (IndexError, KeyError, ValueError):
        raise ValueError("it is no ONNX graph") from None


def _fields(message: bytes, start: int, end: int) -> Iterator[_Field]:
    """The fields of a message that lies between two places."""
    while start < end:
        key, start = _number(message, start)
        kind = key & 7
        if kind == 0:
            _, after = _number(message, start)
        elif kind == 2:
            length, start = _number(message, start)
            after = start + length
        else:
            after = start + {1: 8, 5: 4}[kind]
        yield _Field(key >> 3, start, after)
        start = after


def _number(message: bytes, start: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the place behind it."""
    value, shift = 0, 0
    while message[start] & 0x80:
        value |= (message[start] & 0x7F) << shift
        start, shift = start + 1, shift + 7
    return value | message[start] << shift, start + 1


def _product() -> bytes:
    """A graph of one MatMulInteger: x uint8, w int8."""

    def field(number: int, value: bytes | int) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        assert len(value) < 0x80
        return bytes([number << 3 | 2, len(value)]) + value

    def matrix(name: bytes, kind: int) -> bytes:
        sizes = field(1, b"") * 2  # untold
        return field(1, name) + field(2, field(1, field(1, kind) + field(2, sizes)))

    product = field(_INPUT, b"x") + field(_INPUT, b"w") + field(_OUTPUT, b"y") + field(_OPERATOR, b"MatMulInteger")
    given = field(11, matrix(b"x", _UINT8)) + field(11, matrix(b"w", _INT8))
    graph = field(_NODE, product) + field(2, b"product") + given + field(12, matrix(b"y", _INT32))
    return field(1, _FORMAT) + field(_GRAPH, graph) + field(8, field(2, _OPERATORS))
