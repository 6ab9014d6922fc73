"""The table of `bench`."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.timing.bench import Bench


def bench_view(found: Bench) -> RenderableType:
    """A line for each model and number of threads, and what the columns are."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("target", overflow="fold", min_width=8)
    for title in ("thr", "MB", "load s", "enc ms", "1st ms", "tok ms", "RTFx", "peak MB", "text", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for speed in found.speeds:
        middle, least, most = speed.ratio
        table.add_row(
            escape(speed.target),
            str(speed.threads),
            f"{speed.bytes / 1e6:.2f}",
            f"{speed.load:.2f}",
            f"{speed.encoder:.1f}",
            f"{speed.first:.1f}",
            f"{speed.token:.2f}",
            f"{speed.rtfx:.0f}",
            f"{speed.peak_mb:.0f}",
            f"-{speed.differing}/{speed.words}" if speed.differing else "same",
            f"{middle:.2f}\n{least:.2f}-{most:.2f}",
        )
    notes = (
        f"noise of {found.seconds:g} s and {found.tokens} tokens, greedy; medians of {found.rounds} rounds in turn; "
        "thr: threads; load: with imports; enc, 1st, tok: encoder, first token, each after it; peak MB: with torch "
        "where it runs; text: words of a test clip that differ from the first target's transcript; time: of a "
        "round, over the first target's in the same round, median and range"
    )
    return Group(table, Text(notes, style="dim"))
