"""`sottovoce compress`."""

from pathlib import Path
from typing import Annotated

import typer

from sottovoce.cli.console import say, show_json, stoppable, track
from sottovoce.cli.options import Device, Json, Language, Set, SkipUnusable
from sottovoce.progress import silent


def compress(
    model: Annotated[
        str, typer.Argument(help="A hub id (owner/name or owner/name@revision), a checkpoint's folder, or an artifact.")
    ],
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A built-in recipe (see `sottovoce methods`) or a YAML file.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write. An artifact there is replaced once this one is complete; other files stay.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Calibration audio: a manifest (JSON lines with audio, text) or a folder, apart from every test set."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Utterances drawn from it; by default 128, or all if there are fewer.")
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(help="Training audio for a recipe with finetune, distill or lora, apart from every test set."),
    ] = None,
    overrides: Set = None,
    tokens: Annotated[
        str, typer.Option(help="What drives the decoder in calibration: own (the model's own text) or transcript.")
    ] = "own",
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    language: Language = None,
    revision: Annotated[str | None, typer.Option(help="The hub revision: a commit, a tag or a branch.")] = None,
    device: Device = "cpu",
    skip_unusable: SkipUnusable = False,
    json: Json = False,
) -> None:
    """Compress a model by a recipe and write an artifact: a folder that evaluate, load and export read.

    Example: sottovoce compress openai/whisper-tiny --recipe gptq-w4 --data calib.jsonl --output out/
    """
    from sottovoce.compressing.compress import compress as run
    from sottovoce.nearest import unknown

    if tokens not in ("own", "transcript"):
        raise unknown("value of --tokens", tokens, ("own", "transcript"))
    with stoppable(
        "an artifact is written when it is complete, so nothing was; a training goes on when asked for again"
    ):
        artifact = run(
            model,
            recipe=recipe,
            output=output,
            data=data,
            limit=limit,
            train=train,
            overrides=overrides or (),
            tokens=tokens,  # type: ignore[arg-type]
            seed=seed,
            language=language,
            revision=revision,
            device=device,
            skip_unusable=skip_unusable,
            track=silent if json else track,
        )
    if json:
        show_json(
            {
                "output": str(output),
                "bytes": artifact.bytes,
                "base_bytes": artifact.base.bytes,
                **artifact.as_document(),
            }
        )
    else:
        ratio = artifact.base.bytes / artifact.bytes
        say(
            f"{output}: {artifact.bytes / 1e6:.2f} MB, from {artifact.base.bytes / 1e6:.2f} MB "
            f"({ratio:.1f} times smaller)"
        )
        say(f"next: sottovoce evaluate {output} {model} --data test.jsonl -o runs/x")
        say(f"for speed and memory: sottovoce export {output} --to onnx -o phone/")
