"""What a person sees: notes and progress on standard error, results on standard output."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from sottovoce.files import json_text

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


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """A progress bar with an estimate of the time left; where nobody watches, a line at the end."""
    if not _errors.is_terminal:
        started = time.monotonic()
        yield from items
        say(f"{what}: {total} in {time.monotonic() - started:.1f} s")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_errors) as progress:
        task = progress.add_task(escape(what), total=total)
        for item in items:
            label = getattr(item, "label", None)
            if label:
                progress.update(task, description=f"{escape(what)}: {escape(label)}")
            yield item
            progress.advance(task)
