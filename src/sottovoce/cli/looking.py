"""`sottovoce inspect` and `methods`."""

from typing import Annotated

import typer

from sottovoce.cli.console import show, show_json, width
from sottovoce.cli.options import Json


def inspect(
    target: Annotated[str, typer.Argument(help="An artifact, a checkpoint's folder or a hub id.")],
    seconds: Annotated[
        float | None, typer.Option(help="Audio of the utterance whose cost is told; by default 10, or the window.")
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens written for it.")] = 32,
    beam: Annotated[int, typer.Option(help="Beams.")] = 1,
    json: Json = False,
) -> None:
    """Show what a model is made of: layer, shape, parts, bits, bytes, share; and what an utterance costs.

    Every file is held against its hash first.

    Example: sottovoce inspect out/
    """
    from dataclasses import replace

    from sottovoce.cli.tables import inspection_view
    from sottovoce.measure.inspect import default_workload, inspect_target
    from sottovoce.recognition.target import find_target

    found = find_target(target)
    workload = replace(default_workload(found.frontend), tokens=tokens, beam=beam)
    inspection = inspect_target(found, workload if seconds is None else replace(workload, seconds=seconds))
    if json:
        show_json(inspection.as_document())
    else:
        for part in inspection_view(inspection, width()):
            show(part)


def methods(
    name: Annotated[
        str | None, typer.Argument(help="A method or a built-in recipe; all of them when left out.")
    ] = None,
    json: Json = False,
) -> None:
    """List the methods and the built-in recipes, or show one with its source and its options.

    Example: sottovoce methods gptq
    """
    from sottovoce.cli.tables import catalogue_view, description_view
    from sottovoce.recipes.catalogue import catalogue, describe

    if name is None:
        listed = catalogue()
        if json:
            show_json(listed)
        else:
            for part in catalogue_view(listed):
                show(part)
        return
    described = describe(name)
    if json:
        show_json(described)
    else:
        for part in description_view(described):
            show(part)
