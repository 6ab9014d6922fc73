"""What a person sees: notes and progress on standard error, results on standard output."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sottovoce.files import json_text
from sottovoce.progress import What

LINE_SECONDS = 60.0

T = TypeVar("T")
_errors = Console(stderr=True, highlight=False)
_results = Console(highlight=False)


def say(text: str, *, mark: str = "", style: str = "bold") -> None:
    """A line for a person, on standard error, after a coloured mark if there is one; no text is taken for markup."""
    _errors.print(Text.assemble((f"{mark} " if mark else "", style), text), soft_wrap=True)


def show(result: RenderableType) -> None:
    """A result for a person, on standard output."""
    _results.print(result)


def width() -> int:
    """The columns of standard output."""
    return _results.width


def show_json(document: Any) -> None:
    """The one JSON document of --json, on standard output."""
    print(json_text(document), end="")


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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_errors) as progress:
        task = progress.add_task(escape(_words(what)), total=total)
        for item in items:
            label = getattr(item, "label", None)
            told = f"{_words(what)}: {label}" if label else _words(what)
            progress.update(task, description=escape(told))
            yield item
            progress.advance(task)


def _told_by_line(items: Iterable[T], total: int, what: What) -> Iterator[T]:
    started = told = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - told > LINE_SECONDS:
            told = time.monotonic()
            rate = done / (told - started)
            left = timedelta(seconds=round((total - done) / rate))
            say(f"{_words(what)}: {done} of {total}, {rate:.2f}/s, {left} left")
    reached = str(total) if done == total else f"{done} of {total}"  # a training may stop early
    say(f"{_words(what)}: {reached} in {time.monotonic() - started:.1f} s")


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


def _words(what: What) -> str:
    return what if isinstance(what, str) else what()
