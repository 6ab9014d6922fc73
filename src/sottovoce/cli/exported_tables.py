"""Exports as tables for a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.engines import find_runtime
from sottovoce.exporting.folder import Exported, SelfTest
from sottovoce.exporting.selftest import Heard


def exported_view(exported: Exported) -> RenderableType:
    """The files with their bytes, what the runtime cannot say, and what came of the self-test."""
    runtime = find_runtime(exported.runtime)
    packages = ", ".join(f"{name} {exported.versions[name]}" for name in runtime.runs_on)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file")
    table.add_column("MB", justify="right")
    for name in runtime.files:
        table.add_row(escape(name), f"{(exported.folder / name).stat().st_size / 1e6:.2f}")
    table.add_row(f"all, for {runtime.title} ({packages})", f"{exported.bytes / 1e6:.2f}")
    most = exported.bounds.most_seconds if exported.bounds else None
    told = [f"hears clips of {most:g} s at most"] if most else []
    notes = [Text(note, style="dim") for note in (*told, *(f"note: {note}" for note in exported.notes))]
    return Group(table, *notes, *([_told(exported.tested)] if exported.tested else []))


def tested_view(tested: SelfTest, heard: Sequence[Heard]) -> Iterator[RenderableType]:
    """Each clip that was heard otherwise, then the sum."""
    for each in heard:
        if each.differing:
            yield Text(f"{each.expected.audio}: {each.expected.text!r} was expected, {each.text!r} heard")
    yield _told(tested)


def _told(tested: SelfTest) -> Text:
    said = "passed" if tested.passed else "failed"
    return Text.assemble(
        "self-test ",
        (said, "bold green" if tested.passed else "bold red"),
        f": {tested.equal} of {tested.clips} clips token for token as the artifact; {tested.differing} of "
        f"{tested.words} words differ, {tested.allowed:g} % may",
    )
