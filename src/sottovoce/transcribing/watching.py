"""Watching folders: recordings as they come, each once it has stopped growing."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sottovoce.transcribing.recordings import find_recordings

POLL_SECONDS = 2.0

Named = tuple[Path, PurePosixPath]


@dataclass
class Arrivals:
    """Iterates over lists of new recordings, with their names below the output, until Ctrl-C while it waits.

    A file is new when its size and time have been the same at two looks that are POLL_SECONDS apart, and it holds
    something; once, unless `again` was called for it and it has changed since.
    """

    folders: Sequence[Path]
    wait: Callable[[float], None] = time.sleep
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _given: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _again: set[Path] = field(default_factory=set)

    def __iter__(self) -> Iterator[list[Named]]:
        while True:
            if ready := self.look():
                yield ready
            try:
                self.wait(POLL_SECONDS)
            except KeyboardInterrupt:
                return

    def again(self, path: Path) -> None:
        """It was given and could not be read whole: it is new once more when it has changed."""
        self._again.add(path)

    def look(self) -> list[Named]:
        """Those that have come to rest since the last look."""
        ready, before, self._seen = [], self._seen, {}
        for path, name in find_recordings(self.folders, may_be_empty=True):
            if path in self._given and path not in self._again:
                continue
            try:
                found = path.stat()
            except OSError:  # it went away again
                continue
            self._seen[path] = (found.st_size, found.st_mtime_ns)
            if self._given.get(path) == self._seen[path]:
                continue
            if found.st_size and before.get(path) == self._seen[path]:
                ready.append((path, name))
        self._given |= {path: self._seen[path] for path, _ in ready}
        self._again -= {path for path, _ in ready}
        return ready
