"""What one request may cost, and how many may wait."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one request, and of the queue.

    most_mb       of a file, 1 MB = 10^6 bytes
    most_seconds  of decoded audio
    queue         requests that wait for the one at work

    Raises ValueError for a limit under which nothing could be answered.
    """

    most_mb: float = 200.0
    most_seconds: float = 7200.0
    queue: int = 16

    def __post_init__(self) -> None:
        for name, value in (("most-mb", self.most_mb), ("most-seconds", self.most_seconds)):
            if not 0 < value < float("inf"):
                raise ValueError(f"--{name} {value:g}: a number above 0 would work")
        if self.queue < 0:
            raise ValueError(f"--queue {self.queue}: 0 (one request at a time) or more would work")

    @property
    def most_bytes(self) -> int:
        """Of a file."""
        return int(self.most_mb * 1e6)
