"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write. An unfinished run in it goes on.")]
GOES_ON = "what is complete is kept, and the same command goes on from there"
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change one setting, as grid.bits=3 or steps.0.damp=0.1. May be repeated."
    ),
]
Normalizer = Annotated[
    str,
    typer.Option(
        help="How texts are made alike before scoring: whisper-english (as the Open ASR leaderboard; writes numbers as "
        "digits), whisper-basic (other languages), basic-marks (the same, but keeps vowel signs, as of Hindi and "
        "Thai), none, or auto: the one that fits each row's language."
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        help="The language of all the audio, for a multilingual Whisper; by default each row's own in its manifest, "
        "else the checkpoint's, else detected."
    ),
]
SkipUnusable = Annotated[
    bool,
    typer.Option(
        "--skip-unusable",
        help="Leave out clips that cannot be used (missing, damaged, too long for a model) and count them; by default "
        "all are named and nothing runs.",
    ),
]
Device = Annotated[str, typer.Option(help="Where the model runs, as torch names it: cpu, cuda.")]
Beam = Annotated[int, typer.Option(help="Beams of the search; 1 is greedy search.")]
Vad = Annotated[bool, typer.Option("--vad/--no-vad", help="Leave out what is found to be no speech.")]
Condition = Annotated[
    bool, typer.Option("--condition", help="sequential: take the text of the window before as what comes before.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="chunked: pieces of speech transcribed together.")]
Guards = Annotated[
    bool,
    typer.Option(
        "--guards/--no-guards",
        help="Notice loops, made-up text and text on silence, and try again or leave it out.",
    ),
]
