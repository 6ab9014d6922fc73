"""Exports as tables for a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.exporting.selftest import Heard
from sottovoce.targets.agreement import SelfTest
from sottovoce.targets.exported import Exported


def exported_view(exported: Exported) -> RenderableType:
    """The files with their bytes, what the runtime cannot say, and what came of the self-test."""
    kind = exported.kind
    packages = ", ".join(f"{name} {exported.versions[name]}" for name in kind.packages)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file")
    table.add_column("MB", justify="right")
    for file in kind.opened(exported.folder):
        table.add_row(escape(file.name), f"{file.stat().st_size / 1e6:.2f}")
    table.add_row(f"all, for {kind.title} ({packages})", f"{exported.bytes / 1e6:.2f}")
    most = exported.bounds.most_seconds if exported.bounds else None
    told = [f"takes clips of up to {most:g} s"] if most else []
    notes = [Text(note, style="dim") for note in (*told, *(f"note: {note}" for note in exported.notes))]
    return Group(table, *notes, *([_told(exported.tested)] if exported.tested else []))


def tested_view(tested: SelfTest, heard: Sequence[Heard]) -> Iterator[RenderableType]:
    """Each clip after which another token would be chosen, the outputs where not all agree, then the sum."""
    for each in heard:
        if each.chosen != each.clip.chosen:
            yield Text(f"{each.clip.audio}: {each.clip.text!r} in the artifact, {each.text!r} here")
    if tested.apart:
        yield _outputs(tested)
    yield _told(tested)


def _outputs(tested: SelfTest) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("output")
    for name in ("differs by", "explained by rounding", "allowed"):
        table.add_column(f"{name}, %", justify="right")
    for each in tested.outputs:
        style = None if each.agrees else "red"
        table.add_row(each.name, *(f"{100 * v:.2f}" for v in (each.error, each.explained, each.allowed)), style=style)
    return table


def _told(tested: SelfTest) -> Text:
    said, worst = "passed" if tested.passed else "failed", tested.worst
    return Text.assemble(
        "self-test ",
        (said, "bold green" if tested.passed else "bold red"),
        f": {tested.same} of {tested.tokens} next tokens of {tested.clips} clips match the artifact; largest "
        f"difference: {worst.name}, {100 * worst.error:.2g} % (allowed: {100 * worst.allowed:.2g} %)",
    )
