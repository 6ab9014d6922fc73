"""A file made of pieces of another: what libsndfile is given in place of one that it would read wrongly."""

import io
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from sottovoce.speech.file_bytes import FileBytes


class Piece(NamedTuple):
    """The bytes from `begin` to `end` of a source, so many times one behind the other."""

    source: bytes | FileBytes
    begin: int
    end: int
    times: int = 1

    @property
    def size(self) -> int:
        """In bytes."""
        return self.times * (self.end - self.begin)


class Spliced(io.RawIOBase):
    """The pieces one behind the other, to be read and sought in; none of them is copied."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = [piece for piece in pieces if piece.size]
        self._begins = list(accumulate((piece.size for piece in self._pieces), initial=0))
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the byte that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, as files do."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._begins[-1]}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer; fewer bytes than it holds are read at the end alone, as libsndfile takes them for the end."""
        there = 0
        while there < len(buffer) and (part := self._next(len(buffer) - there)):
            buffer[there : there + len(part)] = part
            there += len(part)
            self._at += len(part)
        return there

    def _next(self, most: int) -> bytes:
        """Some of the bytes from here on, `most` at most; none at the end."""
        if self._at >= self._begins[-1]:
            return b""
        number = bisect(self._begins, self._at) - 1
        piece = self._pieces[number]
        begin = piece.begin + (self._at - self._begins[number]) % (piece.end - piece.begin)
        return piece.source[begin : min(begin + most, piece.end)]
