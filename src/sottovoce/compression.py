"""The verb `compress`: from a model, a recipe and some audio to an artifact on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sottovoce.artifact import Artifact, check_output, save
from sottovoce.calibration import Calibration, Tokens, calibrate
from sottovoce.loop import compress_layers
from sottovoce.models.base import SpeechModel
from sottovoce.models.device import check_device
from sottovoce.progress import Track, silent
from sottovoce.recipe import Recipe, read_recipe, select
from sottovoce.speech.datasets import Corpus, read_corpus
from sottovoce.table import Entry
from sottovoce.target import find_target

DEFAULT_CLIPS = 128


def compress(
    model: str | Path,
    *,
    recipe: str | Path | Mapping[str, Any] | Recipe,
    output: str | Path,
    data: str | Path | Calibration | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    tokens: Tokens = "own",
    seed: int = 0,
    language: str | None = None,
    revision: str | None = None,
    device: str = "cpu",
    track: Track = silent,
) -> Artifact:
    """Compress a model by a recipe and save the artifact at `output`.

    model      a hub id, a checkpoint's folder or an artifact to compress further
    recipe     a built-in name, a YAML file or a mapping; overrides as in "grid.bits=3"
    data       calibration audio: a manifest (JSON lines) or a folder, needed if a step looks at activations; or a
               Calibration made before, to which the options below do not apply
    limit      utterances drawn from it by `seed`; 128, or all if there are fewer, when left out
    tokens     what drives the decoder: the model's "own" greedy tokens or the "transcript"
    language   of the calibration, for a multilingual Whisper whose checkpoint names none
    device     where the model runs while it is compressed, as torch names it

    Raises ValueError, before the model is opened, for a recipe, an output or data that cannot work.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    output = Path(output)
    check_output(output)
    check_device(device)
    target = find_target(model, revision)
    layout = target.layout()
    existing = {entry.name: _written(entry) for entry in target.artifact.entries} if target.artifact else {}
    selection = select(chosen, layout, existing)
    corpus = None
    if not isinstance(data, Calibration):
        corpus = _calibration_corpus(chosen, data, limit, seed, layout)

    speech_model, layers = target.open()
    speech_model.module.to(device)
    for layer in layers.values():
        layer.to(device)
    calibration = data if isinstance(data, Calibration) else None
    if corpus is not None:
        calibration = calibrate(speech_model, corpus, tokens=tokens, seed=seed, language=language, track=track)
    compress_layers(speech_model, layers, selection, calibration.clips if calibration else (), track)
    return save(
        output,
        speech_model,
        layers,
        target.base,
        [*(target.artifact.recipes if target.artifact else ()), _recipe_record(chosen)],
        [*(target.artifact.calibrations if target.artifact else ()), *_calibration_records(calibration)],
    )


def _calibration_corpus(
    recipe: Recipe, data: str | Path | None, limit: int | None, seed: int, layout: SpeechModel
) -> Corpus | None:
    """The utterances to calibrate on, their lengths checked; None if no step looks at data."""
    if not recipe.needs:
        if data is not None:
            raise ValueError(f"recipe {recipe.name} looks at no data, so {data} would have no effect; leave data out")
        return None
    if data is None:
        raise ValueError(
            f"recipe {recipe.name} looks at activations ({', '.join(sorted(recipe.needs))}); give "
            "calibration audio as data"
        )
    return read_calibration(data, limit, seed, layout)


def read_calibration(data: str | Path, limit: int | None, seed: int, layout: SpeechModel) -> Corpus:
    """The utterances that `draw_calibration` draws, their lengths held against the model.

    Raises ValueError if the corpus cannot be read or a clip is too long or too short for the model.
    """
    corpus = draw_calibration(data, limit, seed)
    for utterance in corpus.utterances:
        layout.check_seconds(utterance.seconds, str(utterance.audio))
    return corpus


def draw_calibration(data: str | Path, limit: int | None, seed: int) -> Corpus:
    """`limit` utterances of a corpus drawn by `seed`, by default 128 or all there are."""
    corpus = read_corpus(data, need_text=False)
    return corpus.select(min(DEFAULT_CLIPS, len(corpus)) if limit is None else limit, seed)


def _written(entry: Entry) -> dict[str, str]:
    """Which parts of a layer an earlier compression settled."""
    by = "an earlier compression"
    settled = {"mask": entry.mask, "base": entry.bits or entry.dtype is None or None, "low_rank": entry.rank}
    return {part: by for part, value in settled.items() if value is not None}


def _recipe_record(recipe: Recipe) -> dict[str, Any]:
    return {"name": recipe.name, "key": recipe.key, **recipe.as_document()}


def _calibration_records(calibration: Calibration | None) -> list[dict[str, object]]:
    return [calibration.record.as_document()] if calibration else []
