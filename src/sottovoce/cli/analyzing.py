"""`sottovoce analyze layers`."""

from pathlib import Path
from typing import Annotated

import typer

from sottovoce.cli.console import say, show, show_json, stoppable, track
from sottovoce.cli.options import Device, Json, Language, Normalizer, SkipUnusable
from sottovoce.progress import silent


def layers(
    model: Annotated[str, typer.Argument(help="A hub id, a checkpoint's folder or an artifact.")],
    data: Annotated[
        Path, typer.Option(help="Calibration audio: a manifest (JSON lines with audio) or a folder; no text is needed.")
    ],
    test: Annotated[
        Path | None,
        typer.Option(help="A test set with transcripts, apart from it: the WER without each block is measured too."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder for layers.json and layers.svg, the sweep's picture."),
    ] = None,
    rank_by: Annotated[
        str,
        typer.Option(help="The order in which blocks go: influence, mse, outliers, divergence, or wer (with --test)."),
    ] = "divergence",
    outlier: Annotated[float, typer.Option(help="The magnitude from which a channel counts, for outliers.")] = 7.0,
    limit: Annotated[int, typer.Option(help="Utterances drawn from the calibration audio.")] = 32,
    test_limit: Annotated[int | None, typer.Option(help="Utterances drawn from the test set; all by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    normalizer: Normalizer = "auto",
    batch_size: Annotated[int, typer.Option(help="Clips decoded together; changes the speed, not the result.")] = 16,
    language: Language = None,
    device: Device = "cpu",
    skip_unusable: SkipUnusable = False,
    json: Json = False,
) -> None:
    """Rank the blocks of a model by what is lost without each, and find how many can go before the loss is steep.

    Nothing is written but into --output. What it finds is for drop_layers and merge_layers.

    Example: sottovoce analyze layers openai/whisper-tiny --data calib.jsonl --output analysis/
    """
    from sottovoce.analysis.layers import analyze_layers
    from sottovoce.cli.layers_table import layers_view
    from sottovoce.measure.run import check_output
    from sottovoce.reporting.capacity import write_analysis

    if output is not None:
        check_output(output)
    with stoppable("nothing is kept of an analysis that was not finished"):
        analysis = analyze_layers(
            model,
            data=data,
            test=test,
            rank_by=rank_by,
            outlier=outlier,
            limit=limit,
            test_limit=test_limit,
            seed=seed,
            normalizer=normalizer,
            batch_size=batch_size,
            language=language,
            device=device,
            skip_unusable=skip_unusable,
            track=silent if json else track,
        )
    written = write_analysis(analysis, output) if output is not None else ()
    if json:
        show_json(analysis.as_document())
        return
    for part in layers_view(analysis):
        show(part)
    for file in written:
        say(f"{file} is written")
