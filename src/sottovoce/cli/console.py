"""What a person sees: notes and progress on standard error, results on standard output."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.text import Text

from sottovoce.cli.streams import escaped_json, writable
from sottovoce.files.atomic import json_text
from sottovoce.progress import What, words

LINE_SECONDS = 60.0

T = TypeVar("T")
_errors = Console(stderr=True, highlight=False)
_results = Console(highlight=False)


def say(text: str, *, mark: str = "", style: str = "bold") -> None:
    """A line for a person, on standard error, after a coloured mark if there is one; no text is taken for markup."""
    _errors.print(Text.assemble((f"{mark} " if mark else "", style), text), soft_wrap=True)


def errors() -> Console:
    """Standard error, for what draws on it."""
    return _errors


def show(result: RenderableType) -> None:
    """A result for a person, on standard output."""
    _results.print(result)


def plain(text: str) -> str:
    """The text as standard output can write it; for what is aligned, since a replacement may be longer."""
    return writable(text, sys.stdout.encoding)


def width() -> int:
    """The columns of standard output."""
    return _results.width


def show_json(document: Any) -> None:
    """The one JSON document of --json, on standard output."""
    show_json_text(json_text(document))


def show_json_text(text: str) -> None:
    """The same where the text is there already."""
    print(escaped_json(text, sys.stdout.encoding), end="")


def fail(error: Exception) -> None:
    """The one sentence of an error."""
    told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    say(told, mark="error:", style="bold red")


@contextmanager
def stoppable(after: str) -> Iterator[None]:
    """Within, Ctrl-C says what is left behind; the exit code is then 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(after, mark="stopped:", style="yellow")
        raise


def track(items: Iterable[T], total: int, what: What) -> Iterator[T]:
    """A progress bar with an estimate of the time left; where nobody watches, a line each minute and at the end."""
    if not _errors.is_terminal:
        yield from _told_by_line(items, total, what)
        return
    from sottovoce.cli.progress_bar import bar

    yield from bar(_errors, items, total, what)


def _told_by_line(items: Iterable[T], total: int, what: What) -> Iterator[T]:
    started = told = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - told > LINE_SECONDS:
            told = time.monotonic()
            rate = done / (told - started)
            left = timedelta(seconds=round((total - done) / rate))
            say(f"{words(what)}: {done} of {total}, {rate:.2f}/s, {left} left")
    reached = str(total) if done == total else f"{done} of {total}"  # a training may stop early
    say(f"{words(what)}: {reached} in {time.monotonic() - started:.1f} s")
