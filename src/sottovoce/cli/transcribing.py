"""`sottovoce transcribe`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sottovoce.cli.console import say, show, show_json, stoppable
from sottovoce.cli.options import GOES_ON, BatchSize, Beam, Condition, Device, Guards, Json, Vad

if TYPE_CHECKING:
    from sottovoce.transcribing.summary import RecordingSummary


def transcribe(
    model: Annotated[str, typer.Argument(help="An artifact, an export, a checkpoint's folder or a hub id.")],
    recordings: Annotated[list[str], typer.Argument(help="Recordings of any length, and folders, which are walked.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write. An unfinished job in it goes on.")
    ],
    formats: Annotated[
        str, typer.Option("--format", help="What to write, with commas between: txt, srt, vtt, json, tsv.")
    ] = "txt",
    language: Annotated[
        str | None,
        typer.Option(
            help="The language, as de, for a multilingual Whisper; auto detects it; by default the checkpoint's."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="transcribe or translate, for a multilingual Whisper.")] = None,
    words: Annotated[bool, typer.Option("--words", help="Give each word its times.")] = False,
    vad: Vad = True,
    prompt: Annotated[
        str | None, typer.Option(help="Text that comes before: names, spelling, style (Whisper only).")
    ] = None,
    beam: Beam = 1,
    method: Annotated[
        str,
        typer.Option(
            help="chunked: pieces of speech, several at once; sequential: window after window by Whisper's time tokens."
        ),
    ] = "chunked",
    condition: Condition = False,
    batch_size: BatchSize = 8,
    guards: Guards = True,
    draft: Annotated[
        str | None,
        typer.Option(
            help="A smaller model of the same family that proposes tokens; it changes the speed, not the text."
        ),
    ] = None,
    channels: Annotated[
        str, typer.Option(help="mix: their mean; split: each channel is a speaker and transcribed alone.")
    ] = "mix",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace what this job did not write, and begin anew what other options began."
        ),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with recordings that come into the folders, until Ctrl-C.")
    ] = False,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Transcribe recordings of any length to text, subtitles or JSON, here, with no network.

    A stopped job goes on with the same command. A broken recording is told and the rest goes on; the exit code is 1.

    Example: sottovoce transcribe phone/ meetings/ --output out/ --format txt,srt
    """
    from sottovoce.cli.following import follow
    from sottovoce.cli.transcripts_table import summary_table
    from sottovoce.recognition.wishes import Wishes
    from sottovoce.transcribing.follow import silent
    from sottovoce.transcribing.job import StoppedError
    from sottovoce.transcribing.recordings import checked_choice
    from sottovoce.transcribing.verb import transcribe as run

    checked_choice("value of --method", method, ("chunked", "sequential"))
    wishes = Wishes(
        method=method,  # type: ignore[arg-type]
        vad=vad,
        words=words,
        prompt=prompt,
        condition=condition,
        batch=batch_size,
        guards=guards,
    )
    try:
        with stoppable(GOES_ON):
            summary = run(
                model,
                recordings,
                output=output,
                formats=[name.strip() for name in formats.split(",")],
                language=language,
                task=task,
                wishes=wishes,
                beam=beam,
                device=device,
                draft=draft,
                channels=channels,
                overwrite=overwrite,
                watching=watch,
                follow=silent if json else follow,
                report=_told_nobody if json else _told,
            )
    except StoppedError as error:
        say(str(error), mark="error:", style="bold red")
        raise typer.Exit(1) from None
    if json:
        show_json(summary.as_document())
    else:
        show(summary_table(summary))
    if summary.failed:
        raise typer.Exit(1)


def _told(done: "RecordingSummary") -> None:
    """Why a recording failed and what looks lost, at once."""
    if done.error:
        say(done.error, mark="failed:", style="bold red")
    for note in done.notes:
        say(note, mark="note:", style="yellow")


def _told_nobody(done: "RecordingSummary") -> None:
    """What became of it is in the document."""
