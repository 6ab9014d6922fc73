"""`sottovoce bench`."""

from typing import Annotated, Any

import typer
from rich.console import RenderableType

from sottovoce.cli.console import show, show_json, stoppable, track
from sottovoce.cli.options import Json
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
    seconds: Annotated[
        float | None, typer.Option(help="Seconds of audio; by default 10, or the shortest window.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens written in each round; by default 64, or the longest output of all.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds that count, after a first one that does not.")] = 5,
    json: Json = False,
) -> None:
    """Time models beside each other, in turn, each in a process of its own; ratios are to the first.

    They are timed on noise, and write as many tokens as they are told to. Before that, all transcribe one clip of
    speech; words that differ from the first model's are in the table.

    Example: sottovoce bench openai/whisper-tiny out/ phone/ --peer faster-whisper
    """
    options: dict[str, Any] = {"threads": threads, "seconds": seconds, "tokens": tokens, "rounds": rounds}
    options["track"] = silent if json else track
    with stoppable("nothing was kept"):
        document, view = (_roofline if roofline else _bench)(targets or [], peer or [], options)
    if json:
        show_json(document)
    else:
        show(view)


def _bench(targets: list[str], peers: list[str], options: dict[str, Any]) -> tuple[Any, RenderableType]:
    from sottovoce.cli.bench_table import bench_view
    from sottovoce.timing.bench import bench as run

    found = run(targets, peers=peers, **options)
    return found.as_document(), bench_view(found)


def _roofline(targets: list[str], peers: list[str], options: dict[str, Any]) -> tuple[Any, RenderableType]:
    from sottovoce.cli.roofline_table import roofline_view
    from sottovoce.timing.roofline import roofline as run

    if peers:
        raise ValueError(f"--roofline is of targets, whose products are counted here; leave --peer {peers[0]} out")
    found = run(targets, **options)
    return found.as_document(), roofline_view(found)
