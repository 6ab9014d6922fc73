"""How far a recording is: a bar in seconds of audio, or a line each minute where nobody watches."""

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sottovoce.cli.console import LINE_SECONDS, errors, say
from sottovoce.recognition.segment import Stretch


def follow(stretches: Iterable[Stretch], what: str, seconds: float | None, start: float) -> Iterator[Stretch]:
    """Iterate over stretches, telling percent, speed and the time left."""
    console = errors()
    if not console.is_terminal:
        yield from _told_by_line(stretches, what, seconds, start)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        _Speed(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(escape(what), total=seconds, completed=start)  # type: ignore[arg-type]
        for stretch in stretches:
            yield stretch
            progress.update(task, completed=stretch.end)
        reached = progress.tasks[0].completed
        progress.update(task, total=reached, completed=reached)


def _told_by_line(stretches: Iterable[Stretch], what: str, seconds: float | None, start: float) -> Iterator[Stretch]:
    began = told = time.monotonic()
    reached = start
    for stretch in stretches:
        yield stretch
        reached = stretch.end
        if time.monotonic() - told > LINE_SECONDS:
            told = time.monotonic()
            say(f"{what}: {_so_far(reached, seconds, start, told - began)}")
    wall = time.monotonic() - began
    speed = f", {(reached - start) / wall:.1f} times real time" if wall else ""
    say(f"{what}: {reached - start:.1f} s of audio in {wall:.1f} s{speed}")


def _so_far(reached: float, seconds: float | None, start: float, wall: float) -> str:
    speed = (reached - start) / wall
    if seconds is None:
        return f"{reached:.0f} s, {speed:.1f} times real time"
    left = timedelta(seconds=round(max(0.0, seconds - reached) / speed)) if speed else "unknown"
    share = min(100.0, 100 * reached / seconds) if seconds else 100.0
    return f"{share:.0f} % of {seconds:.0f} s, {speed:.1f} times real time, {left} left"


class _Speed(ProgressColumn):
    """Seconds of audio a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}x")
