"""`sottovoce export` and `selftest`."""

from pathlib import Path
from typing import Annotated

import typer

from sottovoce.cli.console import say, show, show_json, stoppable, track
from sottovoce.cli.options import Json
from sottovoce.progress import silent

FAILED = 3
_Threads = Annotated[int | None, typer.Option(help="Threads of the runtime in the self-test.", min=1)]


def export(
    model: Annotated[str, typer.Argument(help="An artifact, a checkpoint's folder or a hub id.")],
    to: Annotated[
        str,
        typer.Option(
            help="executorch; onnx; ctranslate2 (Whisper, for faster-whisper); ggml (Whisper, for whisper.cpp); "
            "compressed-tensors (packed integers, for transformers and vLLM); or safetensors (dense, what transformers "
            "itself loads)."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write. An export there is replaced once this one is complete; other files stay.",
        ),
    ],
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Of audio at most: a shorter window for a Whisper; for Moonshine on ExecuTorch the memory, else 30."
        ),
    ] = None,
    portable: Annotated[
        list[str], typer.Option(help="A product that ExecuTorch may leave to slow kernels, by name; may be repeated.")
    ] = [],  # noqa: B006
    threads: _Threads = None,
    json: Json = False,
) -> None:
    """Write a model for a runtime with the artifact's own integers, and test what was written.

    The folder needs nothing else and can be evaluated as an artifact can. Exit code 3: the self-test failed; the folder
    is kept and marked.

    Example: sottovoce export out/ --to executorch --output phone/
    """
    from sottovoce.cli.exported_tables import exported_view
    from sottovoce.exporting.verb import SelfTestError
    from sottovoce.exporting.verb import export as run

    try:
        with stoppable("nothing was written"):
            made = run(
                model,
                to=to,
                output=output,
                seconds=seconds,
                portable=portable,
                threads=threads,
                track=silent if json else track,
            )
    except SelfTestError as failure:
        if not json:
            show(exported_view(failure.exported))
        say(str(failure), mark="failed:", style="bold red")
        raise typer.Exit(FAILED) from None
    if json:
        show_json({**made.as_document(), "bytes": made.bytes, "folder": str(made.folder)})
        return
    show(exported_view(made))
    say(f"sottovoce evaluate {made.folder} {made.source.model} --data test.jsonl -o runs/x", mark="next:")


def selftest(
    folder: Annotated[Path, typer.Argument(help="A folder that export has written.")],
    threads: _Threads = None,
    json: Json = False,
) -> None:
    """Run the self-test of an export on this machine, and compare what it computes with its artifact's values.

    Every file is held against its hash first. Exit code 3: they differ by more than rounding explains; what differs
    first is named, and the cause where it is known.

    Example: sottovoce selftest phone/
    """
    from dataclasses import asdict

    from sottovoce.cli.exported_tables import tested_view
    from sottovoce.exporting.causes import causes
    from sottovoce.exporting.selftest import run
    from sottovoce.targets.exported import read_exported

    exported = read_exported(folder)
    tested, heard = run(exported, threads, silent if json else track)
    told = causes(tested, exported.kind, folder)
    if json:
        found = {"passed": tested.passed, "causes": told, "heard": [asdict(each) for each in heard]}
        show_json({**asdict(tested), **found})
    else:
        for part in tested_view(tested, heard):
            show(part)
    if not tested.passed:
        for cause in told:
            say(cause, mark="failed:", style="bold red")
        raise typer.Exit(FAILED)
