"""The tables of `bench --roofline`."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.timing.peaks import Peak, Peaks
from sottovoce.timing.roofline import Roofline


def roofline_view(found: Roofline) -> RenderableType:
    """The peaks, and below them the targets if there are any."""
    if not found.targets:
        return _peaks(found.peaks)
    notes = (
        f"noise of {found.seconds:g} s and {found.tokens} tokens, greedy; medians of {found.rounds} rounds in turn; "
        "thr: threads; start: encoder and first token; floor: its operations at the peaks of their arithmetic; tok: "
        "each token after it; MB: that it reads; floor: these at the peak of reading as many; %: of the peak reached"
    )
    return Group(_peaks(found.peaks), Text(), _targets(found), Text(notes, style="dim"))


def _table(first: str, *titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold", min_width=8)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _peaks(peaks: tuple[Peaks, ...]) -> Table:
    table = _table("peak", "thr", "median", "range")
    table.add_column("kernel")
    for each in peaks:
        for kind, peak in each.products.items():
            table.add_row(f"{kind}, GOP/s", str(each.threads), *_numbers(peak))
        for count, peak in each.reads.items():
            table.add_row(f"read {count / 1e6:g} MB, GB/s", str(each.threads), *_numbers(peak))
    return table


def _numbers(peak: Peak) -> tuple[str, str, str]:
    return f"{peak.middle / 1e9:.0f}", f"{peak.least / 1e9:.0f}-{peak.most / 1e9:.0f}", peak.kernel


def _targets(found: Roofline) -> Table:
    table = _table("target", "thr", "int8 GOP", "fp32", "start ms", "floor", "%", "MB", "tok ms", "floor", "%")
    for each in found.targets:
        table.add_row(
            escape(each.target),
            str(each.threads),
            *(f"{each.operations.get(kind, 0) / 1e9:.1f}" for kind in ("int8", "fp32")),
            f"{each.start:.1f}",
            f"{each.start_floor:.1f}",
            f"{100 * each.start_floor / each.start:.0f}",
            f"{each.token_bytes / 1e6:.1f}",
            f"{each.token:.2f}",
            f"{each.token_floor:.2f}",
            f"{100 * each.token_floor / each.token:.0f}",
        )
    return table
