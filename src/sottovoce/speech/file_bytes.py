"""The bytes of a file of any size by their places, of which a small window is in memory at a time."""

from pathlib import Path
from types import TracebackType

_WINDOW = 1 << 16  # bytes


class FileBytes:
    """Sliced and searched as `bytes` are; an open file, to be closed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._at, self._window = 0, b""

    def __enter__(self) -> "FileBytes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice) -> bytes:
        begin, end, _ = place.indices(self._size)
        if begin >= end:
            return b""
        if not self._at <= begin or end > self._at + len(self._window):
            self._load(begin, end - begin)
        return self._window[begin - self._at : end - self._at]

    def find(self, byte: bytes, start: int) -> int:
        """Where a byte is first met from `start` on; -1 if it is not."""
        at = start
        while at < self._size:
            if not self._at <= at < self._at + len(self._window):
                self._load(at, _WINDOW)
            found = self._window.find(byte, at - self._at)
            if found >= 0:
                return self._at + found
            at = self._at + len(self._window)
        return -1

    def _load(self, begin: int, length: int) -> None:
        self._file.seek(begin)
        self._at, self._window = begin, self._file.read(max(length, _WINDOW))
