"""A file of ONNX as bytes: its nodes and tensors found, one byte or an output changed, without the package onnx.

A graph is a message of protocol buffers; the numbers of its fields are those of onnx.proto.
"""

from collections.abc import Iterator
from typing import NamedTuple

GRAPH, NODE, INITIALIZER = 7, 1, 5
INPUT, OUTPUT, OPERATOR = 1, 2, 4  # of a node
TYPE, NAME, RAW = 2, 8, 9  # of a tensor
UINT8, INT8, INT32 = 2, 3, 6
_GIVEN, _MADE = 11, 12  # of a graph: its own inputs and outputs
_FORMAT, _OPERATORS = 10, 21  # versions


class Field(NamedTuple):
    """A field's number, and where its value lies: the bytes of a message, a text or a tensor, or one number's."""

    number: int
    start: int
    end: int


def parts(model: bytes, number: int) -> Iterator[dict[int, list[Field]]]:
    """The nodes or the initializers of a graph, each by its fields. Raises ValueError for what is no graph."""
    try:
        [graph] = (field for field in _fields(model, 0, len(model)) if field.number == GRAPH)
        for part in _fields(model, graph.start, graph.end):
            if part.number == number:
                found: dict[int, list[Field]] = {}
                for field in _fields(model, part.start, part.end):
                    found.setdefault(field.number, []).append(field)
                yield found
    except (IndexError, KeyError, ValueError):
        raise ValueError("it is no ONNX graph") from None


def texts(model: bytes, part: dict[int, list[Field]], number: int) -> list[str]:
    """The names in a field of a node or an initializer."""
    return [model[field.start : field.end].decode() for field in part.get(number, ())]


def with_outputs(model: bytes, names: list[str]) -> bytes:
    """A graph that puts out these of its values as well: a message that follows another is merged with it."""
    return model + _field(GRAPH, b"".join(_field(_MADE, _field(1, name.encode())) for name in names))


def one_product() -> bytes:
    """A graph of one MatMulInteger: x uint8, w int8, y their product."""

    def matrix(name: bytes, kind: int) -> bytes:
        sizes = _field(1, b"") * 2  # untold
        return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, sizes)))

    product = _field(INPUT, b"x") + _field(INPUT, b"w") + _field(OUTPUT, b"y") + _field(OPERATOR, b"MatMulInteger")
    given = _field(_GIVEN, matrix(b"x", UINT8)) + _field(_GIVEN, matrix(b"w", INT8))
    graph = _field(NODE, product) + _field(2, b"product") + given + _field(_MADE, matrix(b"y", INT32))
    return _field(1, _FORMAT) + _field(GRAPH, graph) + _field(8, _field(2, _OPERATORS))


def _fields(message: bytes, start: int, end: int) -> Iterator[Field]:
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
        yield Field(key >> 3, start, after)
        start = after


def _number(message: bytes, start: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the place behind it."""
    value, shift = 0, 0
    while message[start] & 0x80:
        value |= (message[start] & 0x7F) << shift
        start, shift = start + 1, shift + 7
    return value | message[start] << shift, start + 1


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _as_bytes(number << 3) + _as_bytes(value)
    return _as_bytes(number << 3 | 2) + _as_bytes(len(value)) + value


def _as_bytes(number: int) -> bytes:
    """The inverse of `_number`."""
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
