"""The table for a terminal. Colour only where the eye should go: the front, significant losses, failures."""

from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from sottovoce.reporting.narrow import GAP, LEAST, column_width, full_width, narrow, title
from sottovoce.reporting.table import Table, Tone

_STYLES: dict[Tone, str] = {"plain": "", "front": "yellow", "loss": "red", "failed": "red"}
_WORDS = 1  # the place of the column that folds


def terminal(table: Table) -> RenderableType:
    """The table for any rich Console, made to fit its width; no text is taken for rich's markup."""
    return _Fitting(table)


@dataclass(frozen=True)
class _Fitting:
    """What rich asks for its lines once it knows the width."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield rich_table(self.table, options.max_width)


def rich_table(table: Table, width: int) -> RichTable:
    """The table for a terminal of `width` columns."""
    table = narrow(table, width)
    widths = _widths(table, width)
    below = [*table.notes, *(f"[{number}] {error}" for number, error in enumerate(table.failures, 1))]
    shown = RichTable(
        box=box.SIMPLE_HEAD,
        padding=(0, GAP - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="bold",
        caption=Text("\n" + "\n".join(below), style="dim"),
        caption_justify="left",
    )
    for place, column in enumerate(table.columns):
        shown.add_column(Text(title(table, place)), justify=column.align, overflow="fold", width=widths[place])
    for line in table.lines:
        shown.add_row(*(Text(cell.text, style=_STYLES[cell.tone]) for cell in line))
    return shown


def _widths(table: Table, width: int) -> list[int | None]:
    """Every column as wide as its cells and the words with the rest; None leaves the choice to rich."""
    widths = [column_width(table, place) for place in range(len(table.columns))]
    words = widths[_WORDS] + width - full_width(table)
    if words >= widths[_WORDS]:
        return [None] * len(widths)
    if words < LEAST:
        return [None] * _WORDS + [LEAST] + [None] * (len(widths) - _WORDS - 1)
    return [*widths[:_WORDS], words, *widths[_WORDS + 1 :]]
