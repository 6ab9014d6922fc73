"""Uncompressed audio that is cut short: the bytes of samples that its header promises, against those that are there.

libsndfile takes such a file for a shorter one and says nothing.
"""

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sottovoce.speech.file_bytes import FileBytes
from sottovoce.speech.spliced import Piece, Spliced

# A writer that cannot seek back leaves the size of its data open: 0xFFFFFFFF (ffmpeg), 0x7FFFF000 (sox),
# 0x80000000 (arecord), or 0; with sizes of 64 bits, all ones.
OPEN_SIZE = 0x7FFF_F000
OPEN_SIZE_64 = 1 << 62

Span = tuple[int, int | None]  # where the samples start, and the bytes promised, None if that is left open
_W64_ALIGN, _W64_HEAD = 8, 24


class Kept(NamedTuple):
    """How a header's promise is kept.

    missing   what it promises more than the file holds, in a sentence; None if that is nothing
    open_size where its samples start, if its data size was left at 0, which libsndfile takes for no samples
    """

    missing: str | None = None
    open_size: int | None = None


def kept(path: Path) -> Kept:
    """Whether a file holds what its header promises: WAV, RF64, W64, AIFF, AU, CAF, NIST SPHERE; of others, that."""
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(12)
        find = next((find for start, find in _FINDERS.items() if magic.startswith(start)), None)
        span = find(file) if find else None
        if span is None:
            return Kept()
        start, promised = span
        present = size - start
        if promised is not None and promised > present:
            return Kept(
                f"{path} is cut short: its header promises {promised} bytes of samples and {present} are "
                f"there; copy or download it again"
            )
        if magic[:4] != b"RIFF" or promised != 0 or not present:
            return Kept()
        file.seek(start)
        return Kept() if _is_chunk(file.read(8), present) else Kept(open_size=start)


def with_size(data: FileBytes, start: int) -> Spliced:
    """A WAV whose data size was left at 0, with the size of the samples that are there from `start` on."""
    size = min(len(data) - start, 0xFFFF_FFFF).to_bytes(4, "little")
    return Spliced([Piece(data, 0, start - 4), Piece(size, 0, 4), Piece(data, start, len(data))])


def _is_chunk(head: bytes, present: int) -> bool:
    """Whether these 8 bytes open another RIFF chunk (a printable name, a size that fits), not samples."""
    name, length = head[:4], int.from_bytes(head[4:], "little")
    return len(head) == 8 and all(32 <= byte < 127 for byte in name) and length <= present - 8


def _riff(file: BinaryIO) -> Span | None:
    return _chunk(file, b"data", "little")


def _riff_big(file: BinaryIO) -> Span | None:
    return _chunk(file, b"data", "big")


def _aiff(file: BinaryIO) -> Span | None:
    found = _chunk(file, b"SSND", "big")
    return None if found is None else (found[0], found[1] or None)  # the length in COMM holds if it is 0


def _chunk(file: BinaryIO, wanted: bytes, order: str) -> Span | None:
    """The first chunk of that name in a file of chunks with sizes of 32 bits, padded to even bytes."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        if head[:4] == wanted:
            return file.tell(), None if size >= OPEN_SIZE else size
        file.seek(size + size % 2, io.SEEK_CUR)
    return None


def _rf64(file: BinaryIO) -> Span | None:
    """The chunk ds64, which comes first, has the size that does not fit into data's own."""
    sizes = _chunk(file, b"ds64", "little")
    if sizes is None:
        return None
    file.seek(sizes[0] + 8)
    size = int.from_bytes(file.read(8), "little")
    found = _chunk(file, b"data", "little")
    if found is None:
        return None
    return found[0], found[1] if found[1] is not None else (size if 0 < size < OPEN_SIZE_64 else None)


def _w64(file: BinaryIO) -> Span | None:
    """Names of 16 bytes and sizes of 8 that count both."""
    file.seek(40)
    while len(head := file.read(_W64_HEAD)) == _W64_HEAD:
        size = int.from_bytes(head[16:], "little")
        if head.startswith(b"data"):
            return file.tell(), size - _W64_HEAD if _W64_HEAD < size < OPEN_SIZE_64 else None
        if not _W64_HEAD <= size < OPEN_SIZE_64:
            return None
        file.seek(size - _W64_HEAD + -size % _W64_ALIGN, io.SEEK_CUR)
    return None


def _caf(file: BinaryIO) -> Span | None:
    file.seek(8)
    while len(head := file.read(12)) == 12:
        size = int.from_bytes(head[4:], "big")
        if head[:4] == b"data":
            return file.tell(), size if size < OPEN_SIZE_64 else None
        if size >= OPEN_SIZE_64:
            return None
        file.seek(size, io.SEEK_CUR)
    return None


def _au(file: BinaryIO) -> Span | None:
    file.seek(4)
    start, size = (int.from_bytes(file.read(4), "big") for _ in range(2))
    return start, None if size >= OPEN_SIZE else size


def _nist(file: BinaryIO) -> Span | None:
    """SPHERE: a header of text, by default 1024 bytes."""
    file.seek(0)
    head = file.read(1024)
    if b"shorten" in head or b"wavpack" in head:
        return None
    start = re.search(rb"^NIST_1A\s+(\d+)\s", head)
    counts = [
        re.search(rb"^%s\s+-\w+\s+(\d+)" % name, head, re.M)
        for name in (b"sample_count", b"channel_count", b"sample_n_bytes")
    ]
    found = [int(match[1]) for match in (start, *counts) if match]
    if len(found) < 4:
        return None
    return found[0], found[1] * found[2] * found[3]


_FINDERS: Mapping[bytes, Callable[[BinaryIO], Span | None]] = {
    b"RIFF": _riff,
    b"RIFX": _riff_big,
    b"RF64": _rf64,
    b"FORM": _aiff,
    b"riff": _w64,
    b"caff": _caf,
    b".snd": _au,
    b"NIST_1A": _nist,
}
