"""Storing the integers of a tied embedding and head once in a program.

A .pte is a flatbuffer and segments behind it. The look-up's table lies in the segment of constants, the product's same
bytes in a named segment, which can point into the other one as well. The layout is that of ExecuTorch's program.fbs and
extended header.
"""

from dataclasses import dataclass

from flatbuffers import encode
from flatbuffers.number_types import UOffsetTFlags
from flatbuffers.packer import uint32, uint64
from flatbuffers.table import Table

_MAGIC_AT, _MAGIC = 8, b"eh00"
_SIZE_AT, _BASE_AT, _DATA_AT = 16, 24, 32  # of the program, of where segments begin, of their bytes in all
_SEGMENTS, _CONSTANTS = 4, 5  # fields of Program
_OFFSET, _SIZE = 0, 1  # fields of DataSegment
_ALIGNMENT = 128  # of a segment
_PLACE = 16  # of a constant, and so of what points to one
_LEAST = 4096  # bytes that are worth it


@dataclass
class _Segment:
    """Where a segment lies, counted from the first one; where in the flatbuffer its offset is, if it is there."""

    offset: int
    size: int
    field: int | None


def store_once(program: bytes) -> bytes:
    """The same program with each segment left out whose bytes lie among the constants; it points there.

    Raises ValueError for what is no program with segments.
    """
    if program[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
        raise ValueError("no ExecuTorch program with an extended header")
    base = int.from_bytes(program[_BASE_AT : _BASE_AT + 8], "little")
    segments, constants = _segments(program)
    if constants is None:
        return program
    home = segments[constants]
    held = program[base + home.offset : base + home.offset + home.size]
    inside: dict[int, int] = {}
    for number, segment in enumerate(segments):
        if number != constants and segment.size >= _LEAST:
            place = held.find(program[base + segment.offset : base + segment.offset + segment.size])
            if place >= 0 and place % _PLACE == 0:
                inside[number] = place
    return _without(program, base, segments, constants, inside) if inside else program


def _without(program: bytes, base: int, segments: list[_Segment], home: int, inside: dict[int, int]) -> bytes:
    made, behind, moved = bytearray(program[:base]), bytearray(), {}
    for number, segment in enumerate(segments):
        if number not in inside:
            behind += b"\0" * (-len(behind) % _ALIGNMENT)
            moved[number] = len(behind)
            behind += program[base + segment.offset : base + segment.offset + segment.size]
    for number, segment in enumerate(segments):
        offset = moved[home] + inside[number] if number in inside else moved[number]
        if segment.field is not None:
            encode.Write(uint64, made, segment.field, offset)
        elif offset:
            raise ValueError("a segment at 0 was to be moved, and its offset is not written")
    made[_DATA_AT : _DATA_AT + 8] = len(behind).to_bytes(8, "little")
    return bytes(made + behind)


def _segments(program: bytes) -> tuple[list[_Segment], int | None]:
    """All segments, and the number of the one that holds the constants."""
    root = Table(program, encode.Get(UOffsetTFlags.packer_type, program, 0))
    found = []
    if place := root.Offset(4 + 2 * _SEGMENTS):
        start = root.Vector(place)
        for number in range(root.VectorLen(place)):
            table = Table(program, root.Indirect(start + 4 * number))
            found.append(_Segment(_number(table, _OFFSET), _number(table, _SIZE), _field(table, _OFFSET)))
    place = root.Offset(4 + 2 * _CONSTANTS)
    if not place or not found:
        return found, None
    home = Table(program, root.Indirect(place + root.Pos))
    at = home.Offset(4)
    return found, (encode.Get(uint32, program, home.Pos + at) if at else 0)


def _field(table: Table, number: int) -> int | None:
    at = table.Offset(4 + 2 * number)
    return table.Pos + at if at else None


def _number(table: Table, number: int) -> int:
    at = _field(table, number)
    return 0 if at is None else encode.Get(uint64, table.Bytes, at)
