"""`sottovoce serve`."""

import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sottovoce.cli.console import say, show_json, stoppable
from sottovoce.cli.options import BatchSize, Beam, Condition, Device, Guards, Json, Vad

if TYPE_CHECKING:
    from sottovoce.serving.limits import Limits


def serve(
    model: Annotated[str, typer.Argument(help="An artifact, an export, a checkpoint's folder or a hub id.")],
    host: Annotated[
        str, typer.Option(help="The address to listen on; all but this machine's own ask for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes one that is free.")] = 8080,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SOTTOVOCE_TOKEN",
            help="What clients have to send as Authorization: Bearer TOKEN. Other users of this machine see a command "
            "line, and not the environment.",
            show_default=False,
        ),
    ] = None,
    most_mb: Annotated[float, typer.Option("--most-mb", help="Of one file at most, in 10^6 bytes.")] = 200.0,
    most_seconds: Annotated[float, typer.Option("--most-seconds", help="Of audio in one file at most.")] = 7200.0,
    queue: Annotated[
        int, typer.Option(help="Requests that wait for the one at work; more are told to come again.")
    ] = 16,
    language: Annotated[
        str | None,
        typer.Option(help="Of requests that name none, for a multilingual Whisper; by default detected."),
    ] = None,
    method: Annotated[
        Literal["chunked", "sequential"],
        typer.Option(
            help="chunked: pieces of speech, several at once; sequential: window after window (Whisper only)."
        ),
    ] = "chunked",
    vad: Vad = True,
    prompt: Annotated[
        str | None,
        typer.Option(help="Of requests that send none: text that is taken to come before (Whisper only)."),
    ] = None,
    condition: Condition = False,
    batch_size: BatchSize = 8,
    beam: Beam = 1,
    guards: Guards = True,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Transcribe for other programs, in the shapes of OpenAI's audio interface, until Ctrl-C.

    What is sent is kept in a temporary file while it is transcribed, and neither audio nor text is logged.

    Example: sottovoce serve out/
    """
    _check_installed()
    from sottovoce.recognition.wishes import Wishes
    from sottovoce.serving.limits import Limits
    from sottovoce.serving.server import Address, bound

    limits = Limits(most_mb, most_seconds, queue)
    wishes = Wishes(method=method, vad=vad, prompt=prompt, condition=condition, batch=batch_size, guards=guards)
    address = Address(host, port, token)
    with bound(address) as listening, stoppable("what was under way is given up"):
        from sottovoce.serving.model import served  # what takes seconds, after what can be wrong
        from sottovoce.serving.server import serve as run
        from sottovoce.serving.service import serving
        from sottovoce.serving.subtitles import subtitles

        opened = served(model, language, wishes, device, beam)
        with serving(opened, limits, subtitles()) as service:
            run(service, address, listening, partial(_ready, limits, json))


def _ready(limits: "Limits", json: bool, url: str) -> None:
    if json:
        show_json({"url": url, **asdict(limits)})
        sys.stdout.flush()  # whoever has started it waits for this
        return
    most = f"{limits.most_mb:g} MB and {limits.most_seconds:g} s"
    say(f"{url}: at most {most} a file, and {limits.queue} waiting; Ctrl-C stops", mark="serving:", style="bold green")


def _check_installed() -> None:
    """Raise ValueError if a package of the extra is missing."""
    from importlib.util import find_spec

    names = {
        "fastapi": "fastapi",
        "uvicorn": "uvicorn",
        "python_multipart": "python-multipart",
        "websockets": "websockets",
    }
    if missing := [package for module, package in names.items() if find_spec(module) is None]:
        raise ValueError(f'serve needs {", ".join(missing)}, which is not installed; pip install "sottovoce[serve]"')
