"""The verb `compress`: from a model, a recipe and some audio to an artifact on disk."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sottovoce.artifact.folder import Artifact, check_output, load_layers, read_artifact, save
from sottovoce.calibration.clips import Calibration, CalibrationRecord, Tokens, calibrate
from sottovoce.compressing.loop import compress_layers
from sottovoce.compressing.unfinished import Unfinished
from sottovoce.models.base import SpeechModel
from sottovoce.models.device import check_device
from sottovoce.models.frontend import Frontend
from sottovoce.progress import Track, silent
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.recipe import Recipe
from sottovoce.recipes.select import Selection, select
from sottovoce.recipes.target import check_target
from sottovoce.recognition.spoken import Spoken
from sottovoce.recognition.target import Target, find_target
from sottovoce.recognition.usable import usable
from sottovoce.speech.datasets import Corpus, read_corpus
from sottovoce.targets import find_runtime
from sottovoce.training.data import Material, TrainingData
from sottovoce.training.record import TrainingRecord
from sottovoce.weights.parts import held
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer

DEFAULT_CLIPS = 128
_EARLIER = "an earlier compression"


def compress(
    model: str | Path,
    *,
    recipe: str | Path | Mapping[str, Any] | Recipe,
    output: str | Path,
    data: str | Path | Calibration | None = None,
    limit: int | None = None,
    train: str | Path | None = None,
    overrides: Sequence[str] = (),
    tokens: Tokens = "own",
    seed: int = 0,
    language: str | None = None,
    revision: str | None = None,
    device: str = "cpu",
    heard: str | Path | None = None,
    skip_unusable: bool = False,
    track: Track = silent,
) -> Artifact:
    """Compress a model by a recipe and save the artifact at `output`.

    model      a hub id, a checkpoint's folder or an artifact to compress further
    recipe     a built-in name, a YAML file or a mapping; overrides as in "grid.bits=3"
    data       calibration audio: a manifest (JSON lines) or a folder, needed if a step looks at activations; or a
               Calibration made before, to which the options below do not apply
    limit      utterances drawn from it by `seed`; 128, or all if there are fewer, when left out
    train      training audio, needed if a step trains: a manifest or a folder of any size, read as it is used
    tokens     what drives the decoder: the model's "own" greedy tokens or the "transcript"
    language   of all the calibration and training audio, for a multilingual Whisper; left out, each row's own, else
               what the checkpoint names
    device     where the model runs while it is compressed, as torch names it
    heard      a folder that keeps the uncompressed model's transcripts of training audio, for other compressions that
               ask for the same; it goes with <output>.unfinished when left out
    skip_unusable  leave out clips that the model cannot use (missing, damaged, too long) and count them; otherwise
               all are named and refused

    A recipe that trains keeps its state in <output>.unfinished and goes on from there when it is asked for
    again. Raises ValueError, before the model is opened, for a recipe, an output or data that cannot work.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    output = Path(output)
    check_output(output)
    check_device(device)
    target = find_target(model, revision)
    target.check_open("compress")
    layout, selection = target.layout(), select_on(chosen, target)
    if chosen.target is not None:
        find_runtime(chosen.target).check_search(selection.frontend or target.frontend)
        check_target(chosen.target, selection, target.entries(), layout.components)
    corpus = None
    if not isinstance(data, Calibration):
        corpus = _calibration_corpus(chosen, data, limit, seed, layout, skip_unusable)
    lessons = _training_corpus(chosen, train, layout, skip_unusable, track)
    spoken = Spoken(language)
    for audio in filter(None, (corpus, lessons)):
        spoken.check(audio, layout.frontend, target.name)
    taught = spoken.of_all(lessons, layout.frontend) if lessons is not None else None
    kept = Path(heard) if heard is not None else None
    return _Compression(chosen, selection, target, output, lessons, language, taught, device, kept, track).run(
        data if isinstance(data, Calibration) else None, corpus, tokens, seed
    )


def select_on(recipe: Recipe, target: Target) -> Selection:
    """A recipe against a model or an artifact, before its weights are read. Raises ValueError as `select` does."""
    return select(recipe, target.layout(), _existing(target.artifact) if target.artifact else {})


@dataclass(frozen=True)
class _Compression:
    """What was asked for, once it has been checked; language is of the calibration, taught of the training audio."""

    recipe: Recipe
    selection: Selection
    target: Target
    output: Path
    lessons: Corpus | None
    language: str | None
    taught: str | None
    device: str
    heard: Path | None
    track: Track

    def run(self, calibration: Calibration | None, corpus: Corpus | None, tokens: Tokens, seed: int) -> Artifact:
        """Open, calibrate, compress, save."""
        record = None if self.lessons is None else TrainingRecord.of(self.lessons)
        model, layers = self._opened(*self.target.open())
        if corpus is not None:
            calibration = calibrate(model, corpus, tokens=tokens, seed=seed, language=self.language, track=self.track)
        calibrated, unfinished, first = copy(model.frontend), Unfinished(self.output), 0
        if record is not None:
            unfinished.claim(self._plan(calibration, record))
            if (latest := unfinished.latest()) is not None:
                first = latest
                model, layers = self._opened(*load_layers(read_artifact(unfinished.start(first))))

        def save_as(path: Path, model: SpeechModel, layers: Mapping[str, Layer], curve: Sequence[Any]) -> Artifact:
            before = self.target.artifact
            return save(
                path,
                model,
                layers,
                self.target.base,
                [*(before.recipes if before else ()), _recipe_record(self.recipe)],
                [*(before.calibrations if before else ()), *_records(calibration.record if calibration else None)],
                [*(before.trainings if before else ()), *_records(record)],
                curve,
            )

        material = Material(calibration.clips if calibration else (), written_by=calibrated)
        if self.lessons is not None and record is not None:
            heard = (self.heard or unfinished.folder) / f"heard-{self._teacher(record)}.jsonl"
            data = TrainingData(
                self.lessons, self.taught, self.target.uncompressed, unfinished.folder, heard, self.track
            )
            material = replace(material, training=data)
        compress_layers(
            model,
            layers,
            self.selection,
            material,
            self.track,
            first=first,
            before=lambda number, model, layers: _keep(
                unfinished, number, partial(save_as, model=model, layers=layers)
            ),
        )
        earlier = self.target.artifact.curve() if self.target.artifact else []
        trained = 1 + max((line["training"] for line in earlier), default=-1)
        artifact = save_as(self.output, model, layers, [*earlier, *unfinished.curves(trained)])
        unfinished.remove()
        return artifact

    def _opened(self, model: SpeechModel, layers: dict[str, Layer]) -> tuple[SpeechModel, dict[str, Layer]]:
        model.to(self.device)
        for layer in layers.values():
            layer.to(self.device)
        return model, layers

    def _teacher(self, record: TrainingRecord) -> str:
        """The identity of the uncompressed model's transcripts of the training audio."""
        model = self.target.artifact.base.digest if self.target.artifact else self.target.digest
        return hashlib.sha256(f"{model} {record.digest} {self.taught}".encode()).hexdigest()[:16]

    def _plan(self, calibration: Calibration | None, record: TrainingRecord) -> dict[str, Any]:
        seen = calibration.record if calibration else None
        return {
            "model": self.target.digest,
            "recipe": self.recipe.as_document()["steps"],
            "calibration": {"audio": seen.digest, "tokens": seen.tokens} if seen else None,
            "training": record.digest,
            "language": self.taught,
        }


def _keep(unfinished: Unfinished, number: int, save_as: Callable[..., Artifact]) -> None:
    if not unfinished.start(number).exists():
        save_as(unfinished.start(number), curve=())


def _training_corpus(
    recipe: Recipe, train: str | Path | None, layout: SpeechModel, skip: bool, track: Track
) -> Corpus | None:
    """The utterances to train on, each read once to its end; None if no step trains."""
    if not recipe.trains:
        if train is not None:
            raise ValueError(f"recipe {recipe.name} does not train, so {train} would have no effect; leave train out")
        return None
    if train is None:
        raise ValueError(f"recipe {recipe.name} trains on {' and '.join(sorted(recipe.trains))}; give it as train")
    corpus = read_corpus(train, need_text="transcripts" in recipe.trains, leave_out=True)
    return usable(corpus, [layout.frontend], skip=skip, track=track)


def _calibration_corpus(
    recipe: Recipe, data: str | Path | None, limit: int | None, seed: int, layout: SpeechModel, skip: bool
) -> Corpus | None:
    """The utterances to calibrate on, each read once to its end; None if no step looks at data."""
    if not recipe.needs:
        if data is not None:
            raise ValueError(
                f"recipe {recipe.name} uses no calibration data, so {data} would have no effect; leave data out"
            )
        return None
    if data is None:
        raise ValueError(f"recipe {recipe.name} needs calibration audio; give it as data (--data)")
    return read_calibration(data, limit, seed, layout.frontend, skip)


def read_calibration(
    data: str | Path, limit: int | None, seed: int, frontend: Frontend, skip_unusable: bool = False
) -> Corpus:
    """The utterances that `draw_calibration` draws, each read once to its end.

    skip_unusable  leave out the clips that the model cannot use; otherwise they are refused

    Raises ValueError if the corpus cannot be read, and for clips that are refused, all of which are named.
    """
    return usable(draw_calibration(data, limit, seed, leave_out=True), [frontend], skip=skip_unusable)


def draw_calibration(data: str | Path, limit: int | None, seed: int, leave_out: bool = False) -> Corpus:
    """`limit` utterances of a corpus drawn by `seed`, by default 128 or all; leave_out as in `read_corpus`."""
    corpus = read_corpus(data, need_text=False, leave_out=leave_out)
    return corpus.select(min(DEFAULT_CLIPS, corpus.clips) if limit is None else limit, seed)


def _existing(artifact: Artifact) -> dict[str, dict[str, str]]:
    """Which parts of each layer earlier compressions settled."""
    return {entry.name: _written(entry) for entry in artifact.entries}


def _written(entry: Entry) -> dict[str, str]:
    """Which parts of a layer an earlier compression settled."""
    rounding = entry.input.rounding if entry.input else None
    parts = held(entry)
    settled = {part.settles for part in parts if part.settles} | ({"output"} if entry.output else set())
    if entry.factor_bits is not None:
        settled.add("factors")
    if all(part.field != "base" for part in parts):
        settled.add("base")
    if rounding:
        settled |= {"input", "range"} if rounding.per in ("tensor", "channel") else {"input"}
    if entry.input and entry.input.zeroing:
        settled.add("zeros")
    return dict.fromkeys(settled, _EARLIER)


def _recipe_record(recipe: Recipe) -> dict[str, Any]:
    return {"name": recipe.name, "key": recipe.key, **recipe.as_document()}


def _records(record: CalibrationRecord | TrainingRecord | None) -> list[dict[str, object]]:
    return [record.as_document()] if record else []
