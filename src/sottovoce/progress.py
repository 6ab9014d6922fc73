"""How long work tells what it does: one function that wraps an iteration, and that a caller may replace."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
What = str | Callable[[], str]


class Track(Protocol):
    """Iterate over `items`, telling somebody how far it is.

    total is how many there will be; what names the work, anew for each item if it is a function.
    """

    def __call__(self, items: Iterable[T], total: int, what: What) -> Iterator[T]: ...  # noqa: D102


def silent(items: Iterable[T], total: int, what: What) -> Iterator[T]:
    """Iterate and tell nobody."""
    return iter(items)


def words(what: What) -> str:
    """The name of the work, as it is now."""
    return what if isinstance(what, str) else what()
