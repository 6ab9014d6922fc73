"""The `sottovoce` command: its groups of verbs, and how it ends when something is wrong.

Exit codes: 0 done; 1 some rows of a sweep or some recordings failed; 2 the input cannot work (one sentence on standard
error; SOTTOVOCE_TRACEBACK=1 shows where it was found); 3 an export failed its self-test; 130 stopped by Ctrl-C;
141 whoever read the output has closed it, as `head` does.
"""

import logging
import os
import sys
import traceback
import warnings
from typing import Annotated

import typer

from sottovoce import __version__
from sottovoce.cli import (
    analyzing,
    compressing,
    exporting,
    listening,
    looking,
    measuring,
    offline,
    serving,
    sweeping,
    timing,
    transcribing,
)
from sottovoce.cli.console import fail, say
from sottovoce.cli.streams import forgiving

app = typer.Typer(
    name="sottovoce",
    help="Make speech recognition small enough to run where the speech is: compress Whisper, Moonshine and wav2vec 2.0 "
    "models, measure honestly what that did, and transcribe with the result, offline.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("compress")(compressing.compress)
app.command("transcribe")(transcribing.transcribe)
app.command("listen")(listening.listen)
app.command("serve")(serving.serve)
app.command("verify-offline")(offline.verify_offline)
app.command("evaluate")(measuring.evaluate)
app.command("rescore")(measuring.rescore)
app.command("compare")(measuring.compare)
app.command("bench")(timing.bench)
app.command("sweep")(sweeping.sweep)
app.command("report")(sweeping.report)
app.command("export")(exporting.export)
app.command("selftest")(exporting.selftest)
app.command("inspect")(looking.inspect)
app.command("methods")(looking.methods)
analyze = typer.Typer(
    help="Find out what a model can do without, before it is compressed.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
analyze.command("layers")(analyzing.layers)
app.add_typer(analyze, name="analyze")


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Show warnings of sottovoce as sentences, and keep those of libraries out of sight."""
    warnings.showwarning = lambda message, *_: say(str(message), mark="note:", style="yellow")
    warnings.filterwarnings("ignore", module="(transformers|huggingface_hub|torch).*")
    for noisy in ("torchao", "torch.utils._pytree"):  # what they could not load, at each import
        logging.getLogger(noisy).setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> None:
    """Run the command; a ValueError or an OSError is the user's to mend and gets one sentence."""
    with forgiving():
        try:
            app()
        except (ValueError, OSError) as error:
            if os.environ.get("SOTTOVOCE_TRACEBACK"):
                traceback.print_exception(error)
            fail(error)
            sys.exit(2)
