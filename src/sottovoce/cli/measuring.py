"""`sottovoce evaluate`, `rescore` and `compare`."""

from pathlib import Path
from typing import Annotated

import typer

from sottovoce.cli.console import show, show_json, stoppable, track
from sottovoce.cli.options import GOES_ON, Beam, Device, Json, Language, Normalizer, Output, SkipUnusable
from sottovoce.progress import silent

_RUN = Annotated[Path, typer.Argument(help="A folder that evaluate has written.")]


def evaluate(
    targets: Annotated[list[str], typer.Argument(help="Artifacts, checkpoint folders or hub ids, any number.")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="A test set: a manifest (JSON lines with audio, text; optional speaker, language) or a folder. May be "
            "repeated."
        ),
    ],
    output: Output,
    normalizer: Normalizer = "auto",
    limit: Annotated[int | None, typer.Option(help="Utterances drawn from each set; all by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Clips decoded together; changes the speed, not the result.")] = 16,
    language: Language = None,
    task: Annotated[str | None, typer.Option(help="transcribe or translate, for a multilingual Whisper.")] = None,
    device: Device = "cpu",
    beam: Beam = 1,
    skip_unusable: SkipUnusable = False,
    json: Json = False,
) -> None:
    """Transcribe test sets, keep every transcript, and score them: WER, its counts, its difference to the original.

    Name the uncompressed model too: it is the baseline of the artifacts made from it. A stopped run goes on.

    Example: sottovoce evaluate out/ openai/whisper-tiny --data test.jsonl --output runs/x/
    """
    from sottovoce.cli.tables import scores_table
    from sottovoce.measure.evaluate import evaluate as run

    with stoppable(GOES_ON):
        evaluation = run(
            targets,
            data=data,
            output=output,
            normalizer=normalizer,
            limit=limit,
            seed=seed,
            batch_size=batch_size,
            language=language,
            task=task,
            device=device,
            beam=beam,
            skip_unusable=skip_unusable,
            track=silent if json else track,
        )
    if json:
        show_json(evaluation.as_document())
    else:
        show(scores_table(evaluation))


def rescore(folder: _RUN, normalizer: Normalizer = "auto", json: Json = False) -> None:
    """Score the transcripts of a run again with another normalizer. No model is needed.

    Example: sottovoce rescore runs/x/ --normalizer whisper-basic
    """
    from sottovoce.cli.tables import scores_table
    from sottovoce.measure.evaluate import rescore as run

    evaluation = run(folder, normalizer=normalizer)
    if json:
        show_json(evaluation.as_document())
    else:
        show(scores_table(evaluation))


def compare(
    folder: _RUN,
    baseline: Annotated[
        str | None,
        typer.Option(help="The target to hold the others against; by default each one's uncompressed model."),
    ] = None,
    normalizer: Normalizer = "auto",
    json: Json = False,
) -> None:
    """Hold the targets of a run against a baseline: difference of WER with its interval, what got worse, examples.

    Example: sottovoce compare runs/x/ --baseline openai/whisper-tiny
    """
    from sottovoce.cli.tables import comparison_table
    from sottovoce.measure.compare import compare as run

    found = run(folder, baseline=baseline, normalizer=normalizer)
    if json:
        show_json({"comparisons": [comparison.as_document() for comparison in found]})
    else:
        for comparison in found:
            show(comparison_table(comparison))
