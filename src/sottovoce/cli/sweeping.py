"""`sottovoce sweep` and `report`."""

from pathlib import Path
from typing import Annotated

import typer

from sottovoce.cli.console import say, show, show_json, show_json_text, stoppable, track
from sottovoce.cli.options import GOES_ON, Device, Json, Output, Set, SkipUnusable
from sottovoce.progress import silent


def sweep(
    file: Annotated[
        Path, typer.Argument(help="A YAML file: models, data, calibration, and recipes whose values may be lists.")
    ],
    output: Output,
    overrides: Set = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute the rows that failed again.")] = False,
    device: Device = "cpu",
    skip_unusable: SkipUnusable = False,
    json: Json = False,
) -> None:
    """Compute every combination that a sweep file names, one row each; killed at any moment, it goes on.

    A row that fails keeps its error and the others go on; the exit code is then 1. An error that every further row
    would have, as of a full disk, stops the sweep and is kept in no row; the exit code is then 2.

    Example: sottovoce sweep sweeps/quickstart.yaml --output runs/quickstart/
    """
    from dataclasses import asdict

    from sottovoce.sweeping.sweep import sweep as run

    with stoppable(GOES_ON):
        rows = run(
            file,
            output=output,
            overrides=overrides or (),
            retry_failed=retry_failed,
            device=device,
            skip_unusable=skip_unusable,
            track=silent if json else track,
        )
    failed = [row for row in rows if row.error]
    if json:
        show_json({"rows": [asdict(row) for row in rows]})
    else:
        say(f"{output}: {len(rows) - len(failed)} rows, {len(failed)} failed")
        for row in failed:
            say(f"{row.model} {row.quantization} {row.sparsity}: {row.error}", mark="failed:", style="red")
        say(f"next: sottovoce report {output} --output report/")
    if failed:
        raise typer.Exit(1)


def report(
    folder: Annotated[Path, typer.Argument(help="The output folder of a sweep.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for table.md, .csv, .tex, .json and report.html.")
    ],
    json: Json = False,
) -> None:
    """Print a sweep's table and write it as Markdown, CSV, LaTeX, JSON and a page; a star marks the Pareto front.

    Example: sottovoce report runs/quickstart/ --output report/
    """
    from sottovoce.reporting.report import report as run
    from sottovoce.reporting.terminal import terminal

    made = run(folder, output=output)
    if json:
        show_json_text((output / "table.json").read_text(encoding="utf-8"))
    else:
        show(terminal(made.table))
        say(f"written: {', '.join(str(file) for file in made.files)}")
