"""The table of `transcribe`: what became of each recording, and of all."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.transcribing.summary import Summary

_STATES = {"done": "", "earlier": " (earlier)", "failed": " (failed)"}


def summary_table(summary: Summary) -> RenderableType:
    """Seconds, those of speech kept and dropped, words, guards that fired, speed; then the totals."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recording", overflow="fold", min_width=12)
    for title in ("seconds", "speech", "dropped", "words", "guards", "RTFx"):
        table.add_column(title, justify="left" if title == "guards" else "right")
    for one in summary.recordings:
        table.add_row(
            escape(one.name + _STATES[one.state]),
            *(f"{number:,.1f}" for number in (one.seconds, one.speech, one.dropped)),
            f"{one.words:,}",
            escape(guards_words(one.guards)),
            _speed(one.rtfx),
        )
    return Group(
        table,
        Text(totals(summary)),
        Text("RTFx: seconds of audio in a second", style="dim"),
    )


def totals(summary: Summary) -> str:
    """One line on all recordings."""
    states = ", ".join(f"{summary.count(state)} {state}" for state in _STATES if summary.count(state))
    words = sum(one.words for one in summary.recordings)
    speech = sum(one.speech for one in summary.recordings)
    count = f"{len(summary.recordings)} {'recording' if len(summary.recordings) == 1 else 'recordings'}"
    heard = f"{summary.seconds:,.1f} s, {speech:,.1f} s of speech, {words:,} words, RTFx {_speed(summary.rtfx)}"
    upload = f"{summary.bytes_not_uploaded / 1e6:,.2f} MB not uploaded (Opus at 64 kbit/s)"
    return f"{count} ({states or 'none'}): {heard}; {upload}"


def guards_words(guards: Mapping[str, int]) -> str:
    """ "loops 2, phrases 1"."""
    return ", ".join(f"{name} {count}" for name, count in guards.items()) or "-"


def _speed(rtfx: float | None) -> str:
    return "-" if rtfx is None else f"{rtfx:.1f}"
