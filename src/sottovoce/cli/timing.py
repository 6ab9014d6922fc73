"""`sottovoce bench`."""

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.cli.console import show, show_json, stoppable, track
from sottovoce.cli.options import Json
from sottovoce.cli.roofline_table import roofline_view
from sottovoce.measure.bench import Bench
from sottovoce.measure.roofline import Roofline
from sottovoce.progress import silent


def bench(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Artifacts, exports, checkpoint folders or hub ids, any number.", show_default=False),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another program beside them, with the first target's uncompressed checkpoint: faster-whisper (int8), "
            "faster-whisper-best (AVX512, huge pages), transformers, or whisper.cpp=FILE with a ggml file of the same "
            "model. May be repeated.",
        ),
    ] = None,
    roofline: Annotated[
        bool,
        typer.Option(
            "--roofline", help="The machine's peaks, and how close each target comes; without targets, the peaks alone."
        ),
    ] = False,
    threads: Annotated[list[int], typer.Option(help="Threads; may be repeated, each is a run of its own.")] = [1, 2],  # noqa: B006
    seconds: Annotated[float | None, typer.Option(help="Of audio; by default 10, or the shortest window.")] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Written in each round; by default 64, or the longest output of all.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="After one that is not counted.")] = 5,
    json: Json = False,
) -> None:
    """Time models beside each other, in turn, each in a process of its own; ratios are to the first.

    They hear noise, and write as many tokens as they are told to. Before that all hear one clip of speech, and what a
    model hears otherwise than the first one is in the table.

    Example: sottovoce bench openai/whisper-tiny out/ phone/ --peer faster-whisper
    """
    options: dict[str, Any] = {"threads": threads, "seconds": seconds, "tokens": tokens, "rounds": rounds}
    options["track"] = silent if json else track
    with stoppable("nothing was kept"):
        measured = (_roofline if roofline else _bench)(targets or [], peer or [], options)
    if json:
        show_json(measured.as_document())
    elif isinstance(measured, Bench):
        show(view(measured))
    else:
        show(roofline_view(measured))


def _bench(targets: list[str], peers: list[str], options: dict[str, Any]) -> Bench:
    from sottovoce.measure.bench import bench as run

    return run(targets, peers=peers, **options)


def _roofline(targets: list[str], peers: list[str], options: dict[str, Any]) -> Roofline:
    from sottovoce.measure.roofline import roofline as run

    if peers:
        raise ValueError(f"--roofline is of targets, whose products are counted here; leave --peer {peers[0]} out")
    return run(targets, **options)


def view(found: Bench) -> RenderableType:
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
        "where it runs; text: words of a clip of speech that the first target heard and this one did not; time: of a "
        "round, over the first target's in the same round, median and range"
    )
    return Group(table, Text(notes, style="dim"))
