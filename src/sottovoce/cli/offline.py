"""`sottovoce verify-offline`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sottovoce.cli.console import show, show_json
from sottovoce.cli.options import Json


def verify_offline(
    model: Annotated[
        str, typer.Argument(help="An artifact, an export, a checkpoint folder, or a hub id in the cache.")
    ],
    recording: Annotated[Path, typer.Argument(help="A file of speech.")],
    json: Json = False,
) -> None:
    """Transcribe a file in a process that has no network, and print the proof.

    On Linux the process gets a network namespace of its own; elsewhere every connection is refused. What it tried is
    listed.

    Example: sottovoce verify-offline out/ speech.wav
    """
    from sottovoce.transcribing.offline import NAMESPACE
    from sottovoce.transcribing.offline import verify_offline as run
    from sottovoce.transcribing.summary import UPLOAD_BYTES_PER_SECOND

    proof = run(model, recording)
    if json:
        show_json(asdict(proof))
        return
    where = f"in a network namespace of its own (interfaces: {', '.join(proof.interfaces)})"
    show(f"Transcribed {where if proof.how == NAMESPACE else 'with all sockets blocked'}.")
    show(escape(f"A connection outward gave: {proof.refused}."))
    tried = "; ".join(proof.attempts)
    show(escape(f"Connections that the transcription tried: {tried or 'none'}."))
    saved = proof.seconds * UPLOAD_BYTES_PER_SECOND / 1e6
    show(f"{proof.seconds:.1f} s of audio in {proof.took:.1f} s; {saved:.2f} MB were not uploaded (Opus, 64 kbit/s).")
    show(escape(proof.text))
