"""How a job tells how far it is in a recording: a function that wraps its stretches, which a caller may replace."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from sottovoce.recognition.segment import Stretch


class Follow(Protocol):
    """Iterate over stretches, telling somebody to which second of a recording they reach.

    what     names the recording
    seconds  how long it is; None where that is not known before its end
    start    the second at which they begin
    """

    def __call__(  # noqa: D102
        self, stretches: Iterable[Stretch], what: str, seconds: float | None, start: float
    ) -> Iterator[Stretch]: ...


def silent(stretches: Iterable[Stretch], what: str, seconds: float | None, start: float) -> Iterator[Stretch]:
    """Iterate and tell nobody."""
    return iter(stretches)
