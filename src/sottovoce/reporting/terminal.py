"""The table for a terminal. Colour only where the eye should go: the front, significant losses, failures."""

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from sottovoce.reporting.table import Table, Tone

_STYLES: dict[Tone, str] = {"plain": "", "front": "yellow", "loss": "red", "failed": "dim red"}


def terminal(table: Table) -> RichTable:
    """The table for rich's Console; a narrow terminal folds cells. No text is taken for rich's markup."""
    below = [*table.notes, *(f"[{number}] {error}" for number, error in enumerate(table.failures, 1))]
    shown = RichTable(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        header_style="bold",
        caption=Text("\n".join(below), style="dim"),
        caption_justify="left",
    )
    for column in table.columns:
        shown.add_column(Text(column.title), justify=column.align, vertical="top", overflow="fold")
    for line in table.lines:
        shown.add_row(*(Text(cell.text, style=_STYLES[cell.tone]) for cell in line))
    return shown
