"""An artifact: a folder that holds a compressed model, and from which alone it is ever measured.

    model.safetensors   packed parts of the compressed layers, everything else as it was
    sottovoce.json      format, base model, recipe, calibration, table of layers, hashes of all files
    config.json ...     the processor's and model's own files, so that nothing else is needed
    README.md           what this is, for a person
    training.jsonl      the curves of what was trained, a line each step

Every tensor has exactly one home: a part of one layer, a turn, or the rest. docs/formats.md says all of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sottovoce.artifact.base import MANIFEST, Base
from sottovoce.artifact.model_card import model_card
from sottovoce.files.atomic import sha256
from sottovoce.files.replacing import new_folder, remove_files
from sottovoce.files.sealed import check_replaceable, read_sealed, seal, unchanged
from sottovoce.models import family
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import Checkpoint, read_json
from sottovoce.models.companions import OWN, check_listed, is_companion
from sottovoce.versions import versions
from sottovoce.weights.packed import checked_parts, entry_of, pack_layer, unpack_layer
from sottovoce.weights.part import DTYPE_NAMES
from sottovoce.weights.path_parts import pack_turn, turn_entry, unpack_turn
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry, TensorSpec, file_size, turn_parts
from sottovoce.weights.weight import Layer

FORMAT = 4  # the newest that is read
LEAST_FORMAT = 3  # what an artifact says that holds nothing newer
WEIGHTS, CARD, CURVE = "model.safetensors", "README.md", "training.jsonl"


@dataclass(frozen=True)
class Artifact:
    """What sottovoce.json says. `recipes`, `calibrations`, `trainings` have one item for each compression in turn."""

    folder: Path
    base: Base
    recipes: tuple[Mapping[str, Any], ...]
    calibrations: tuple[Mapping[str, Any], ...]
    trainings: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    entries: tuple[Entry, ...]
    turns: tuple[TurnEntry, ...]
    rest: tuple[TensorSpec, ...]
    files: Mapping[str, str]
    digest: str = field(default="")

    @property
    def bytes(self) -> int:
        """The bytes of model.safetensors."""
        return (self.folder / WEIGHTS).stat().st_size

    @cached_property
    def fitted_fingerprints(self) -> frozenset[str]:
        """The audio that the artifact was calibrated or trained on."""
        return frozenset(mark for record in (*self.calibrations, *self.trainings) for mark in record["fingerprints"])

    def curve(self) -> list[dict[str, Any]]:
        """The training curves, a mapping for each step; empty if nothing was trained."""
        path = self.folder / CURVE
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []

    def predicted_bytes(self) -> int:
        """The bytes of model.safetensors from the table alone."""
        named = family(Checkpoint(str(self.folder), self.folder, None)).full_name
        turned = (part for turn in self.turns for part in turn_parts(turn, named(turn.name)))
        return file_size([*(part for entry in self.entries for part in entry.parts()), *turned, *self.rest])

    @property
    def format(self) -> int:
        """The lowest that tells all that is in it, so that an older version reads what it can."""
        changed = OWN in read_json(self.folder / "config.json")
        newer = changed or any(entry.newer for entry in self.entries)
        return FORMAT if newer else LEAST_FORMAT

    def as_document(self) -> dict[str, Any]:
        """The content of sottovoce.json without its own digest."""
        return {
            "format": self.format,
            "base": asdict(self.base),
            "recipes": list(self.recipes),
            "calibrations": list(self.calibrations),
            "trainings": list(self.trainings),
            "versions": dict(self.versions),
            "layers": [entry.as_document() for entry in self.entries],
            "turns": [asdict(turn) for turn in self.turns],
            "rest": [asdict(spec) for spec in self.rest],
            "files": dict(self.files),
        }


def check_output(output: Path) -> None:
    """Raise ValueError if saving at `output` cannot work or would destroy something that is not an artifact's."""
    own = (WEIGHTS, MANIFEST, CARD, CURVE)
    check_replaceable(output, "an artifact", MANIFEST, lambda name: name in own or is_companion(name))


def remove(folder: Path) -> None:
    """Remove an artifact: the files that it lists as they are, and the folder if that was all it held."""
    remove_files(folder, unchanged(folder / MANIFEST))


def save(
    output: Path,
    model: SpeechModel,
    layers: Mapping[str, Layer],
    base: Base,
    recipes: Sequence[Mapping[str, Any]],
    calibrations: Sequence[Mapping[str, Any]],
    trainings: Sequence[Mapping[str, Any]] = (),
    curve: Sequence[Mapping[str, Any]] = (),
) -> Artifact:
    """Write an artifact; an older one at `output` is replaced only when the new one is complete.

    What else lies there stays.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    check_output(output)
    entries = tuple(
        entry_of(layer, f"{model.full_name(name)}.weight", tuple(model.find(name).weight.shape))  # type: ignore[arg-type]
        for name, layer in layers.items()
    )
    rest = _rest(model, {entry.tensor for entry in entries})
    tensors = dict(rest)
    for entry in entries:
        tensors |= pack_layer(layers[entry.name], entry)
    turns = tuple(TurnEntry(name, turn_entry(turn)) for name, turn in model.turns.items())
    for entered in turns:
        tensors |= pack_turn(model.turns[entered.name], entered.turn, f"{model.full_name(entered.name)}.turn")
    with new_folder(output, lambda older: unchanged(older / MANIFEST)) as folder:
        try:
            save_file(tensors, folder / WEIGHTS)
        except SafetensorError as error:  # a full disk among others, and no OSError
            raise OSError(f"{output / WEIGHTS} could not be written: {error}") from error
        (folder / WEIGHTS).chmod(0o644)
        model.write_companions(folder)
        written = Artifact(
            folder,
            base,
            tuple(recipes),
            tuple(calibrations),
            tuple(trainings),
            versions("sottovoce", "torch", "transformers", "safetensors"),
            entries,
            turns,
            tuple(TensorSpec(name, DTYPE_NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in rest.items()),
            {},
        )
        if curve:
            (folder / CURVE).write_text("".join(json.dumps(line) + "\n" for line in curve), encoding="utf-8")
        card = model_card(written.as_document(), written.bytes)
        (folder / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")
        hashed = {file.name: sha256(file) for file in sorted(folder.iterdir())}
        seal(folder / MANIFEST, {**written.as_document(), "files": hashed})
    return read_artifact(output)


def _rest(model: SpeechModel, weights: set[str]) -> dict[str, Tensor]:
    """All that is no layer's weight, in the checkpoint's dtype where that loses nothing."""
    skip = weights | model.unstored
    rest = {}
    for name, tensor in model.module.state_dict().items():
        if name in skip:
            continue
        stored = tensor.to(model.stored_dtypes.get(name, torch.float32))
        rest[name] = (stored if torch.equal(stored.float(), tensor) else tensor).cpu().contiguous()
    return rest


def read_artifact(folder: str | Path) -> Artifact:
    """The artifact in a folder, with every file held against its hash.

    Raises ValueError for a newer format, a missing or changed file, a manifest that was edited.
    """
    folder = Path(folder)
    document = read_sealed(
        folder / MANIFEST, FORMAT, "compress the model again", inside=lambda name: Path(name).name == name
    )
    check_listed(folder, document["files"])
    return Artifact(
        folder,
        Base(**document["base"]),
        tuple(document["recipes"]),
        tuple(document["calibrations"]),
        tuple(document.get("trainings", ())),
        document["versions"],
        tuple(Entry.of_document(entry) for entry in document["layers"]),
        tuple(TurnEntry.of_document(turn) for turn in document.get("turns", ())),
        tuple(TensorSpec(spec["name"], spec["dtype"], tuple(spec["shape"])) for spec in document["rest"]),
        document["files"],
        document["digest"],
    )


def load_layers(artifact: Artifact) -> tuple[SpeechModel, dict[str, Layer]]:
    """The model whose weights are computed from the packed parts, and its layers.

    Every parameter and buffer comes from the file: nothing of the fresh module is left.
    """
    from safetensors.torch import load_file

    checkpoint = Checkpoint(str(artifact.folder), artifact.folder, None)
    model = family(checkpoint).without_weights(checkpoint, "cpu")
    tensors = load_file(artifact.folder / WEIGHTS)
    layers: dict[str, Layer] = {}
    homeless = set(model.module.state_dict()) - model.unstored
    for entry in artifact.entries:
        try:
            layers[entry.name] = unpack_layer(entry, tensors)
        except ValueError as error:
            raise ValueError(f"{artifact.folder / WEIGHTS}: {error}; compress the model again") from None
        model.assign(layers[entry.name])
        homeless.discard(entry.tensor)
    for entered in artifact.turns:
        module = model.full_name(entered.name)
        try:
            parts = checked_parts(turn_parts(entered, module), tensors, module)
        except ValueError as error:
            raise ValueError(f"{artifact.folder / WEIGHTS}: {error}; compress the model again") from None
        model.set_turn(entered.name, unpack_turn(entered.turn, parts, "turn"))
    state = model.module.state_dict()
    for spec in artifact.rest:
        _fill(state, spec, tensors, artifact.folder / WEIGHTS)
        homeless.discard(spec.name)
        model.stored_dtypes[spec.name] = tensors[spec.name].dtype
    if homeless:
        raise ValueError(
            f"{artifact.folder} says nothing of {len(homeless)} tensors of the model, first {min(homeless)}"
        )
    return model, layers


@torch.no_grad()
def _fill(state: Mapping[str, Tensor], spec: TensorSpec, tensors: Mapping[str, Tensor], file: Path) -> None:
    tensor = tensors.get(spec.name)
    if tensor is None or spec.name not in state or tensor.shape != state[spec.name].shape:
        raise ValueError(f"{file}: {spec.name} is absent or has another shape than the model; compress the model again")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{file}: {spec.name} holds values that are not finite; compress the model again")
    state[spec.name].copy_(tensor)
