"""The progress bar of a terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
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

from sottovoce.progress import What, words

T = TypeVar("T")


def bar(console: Console, items: Iterable[T], total: int, what: What) -> Iterator[T]:
    """Iterate under a bar with what is done, the rate, and an estimate of the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(escape(words(what)), total=total)
        for item in items:
            label = getattr(item, "label", None)
            told = f"{words(what)}: {label}" if label else words(what)
            progress.update(task, description=escape(told))
            yield item
            progress.advance(task)


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")
