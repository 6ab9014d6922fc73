"""What can be evaluated or run: an artifact, a checkpoint in a folder or on the hub, an export for a runtime.

What only the first two need, torch and its models, is imported where it is used.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.artifact.base import Base, is_artifact
from sottovoce.models import family, open_layout
from sottovoce.models.checkpoint import Checkpoint, resolve
from sottovoce.models.frontend import Frontend, supported
from sottovoce.recognition.beam import check_width
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.targets.exported import Exported, is_exported, read_exported
from sottovoce.targets.threads import default_threads
from sottovoce.versions import versions

if TYPE_CHECKING:
    from sottovoce.artifact.folder import Artifact
    from sottovoce.models.base import SpeechModel
    from sottovoce.weights.table import Entry
    from sottovoce.weights.weight import Layer


@dataclass(frozen=True)
class Target:
    """One model by what it is on disk: an artifact, an export, or an uncompressed checkpoint if it is neither."""

    name: str
    checkpoint: Checkpoint
    artifact: "Artifact | None" = None
    exported: Exported | None = None

    @property
    def digest(self) -> str:
        """The identity of what is measured."""
        return (self.exported or self.artifact or self.checkpoint).digest

    @property
    def base_digest(self) -> str:
        """The identity of the uncompressed model behind it, which may be itself."""
        return self.base.digest

    @property
    def base(self) -> Base:
        """The uncompressed model behind it."""
        made = self.exported or self.artifact
        if made:
            return made.base
        return Base(self.checkpoint.name, self.checkpoint.revision, self.checkpoint.digest, self.checkpoint.bytes)

    @property
    def bytes(self) -> int:
        """The bytes of its weights on disk."""
        return (self.exported or self.artifact or self.checkpoint).bytes

    @property
    def fitted_fingerprints(self) -> frozenset[str]:
        """The audio that it was calibrated or trained on here."""
        made = self.exported or self.artifact
        return made.fitted_fingerprints if made else frozenset()

    @property
    def engine(self) -> str:
        """What transcribes with it here, as "torch 2.13.0 in 2 threads" or "ONNX Runtime 1.32.0 in 2 threads"."""
        threads = default_threads()
        told = f"{threads} thread" if threads == 1 else f"{threads} threads"
        if not self.exported:
            return f"torch {versions('torch')['torch'].partition('+')[0]} in {told}"
        kind = self.exported.kind
        return f"{kind.title} {self.exported.versions[next(iter(kind.packages))]} in {told}"

    def check_open(self, verb: str) -> None:
        """Raise ValueError if it is an export, whose weights lie as a runtime wants them."""
        if self.exported:
            raise ValueError(f"{self.name} is an export; {verb} what it was made from, {self.exported.source.model}")

    def check_search(self, language: str | None, task: str | None, beam: int) -> None:
        """Raise ValueError for a language, a task or a number of beams that it cannot be asked for."""
        kind = self.exported.kind if self.exported else None
        if beam != 1 and kind and kind.greedy_only:
            raise ValueError(
                f"beam={beam}: {kind.title} has its own greedy search; beam=1, or another runtime, would work"
            )
        check_width(beam, self.frontend.rules(language, task), self.frontend.vocabulary)

    @cached_property
    def frontend(self) -> Frontend:
        """Its features, its text and its rules, made once; with the layout, of which a config may make none."""
        return self.exported.frontend() if self.exported else self.layout().frontend

    def layout(self) -> "SpeechModel":
        """The model without weights, made once."""
        return self._layout

    @cached_property
    def _layout(self) -> "SpeechModel":
        model = open_layout(self.checkpoint)
        model.frontend.runtime_bounds = self.exported.bounds if self.exported else None
        return model

    def open(self) -> "tuple[SpeechModel, dict[str, Layer]]":
        """The model with its weights, and its layers."""
        self.check_open("open")
        if self.artifact:
            from sottovoce.artifact.folder import load_layers

            return load_layers(self.artifact)
        model = family(self.checkpoint).with_weights(self.checkpoint)
        return model, model.layers()

    def uncompressed(self) -> "SpeechModel":
        """The uncompressed model behind it, opened. Raises ValueError if what has its name now is another."""
        self.check_open("open")
        return self.before_compression("a teacher has to be the same model").open()[0]

    def before_compression(self, reason: str) -> "Target":
        """The uncompressed checkpoint behind it. Raises ValueError, with the reason, if its name is another's now."""
        if not (self.artifact or self.exported):
            return self
        found = find_target(self.base.model, self.base.revision)
        if found.digest != self.base.digest:
            raise ValueError(f"{self.name} was made from {self.base.model}, which has changed since; {reason}")
        return found

    def recognizer(
        self, language: str | None = None, task: str | None = None, device: str = "cpu", beam: int = 1
    ) -> Recognizer:
        """The model opened on a device, ready to transcribe."""
        if not self.exported or device != "cpu":
            from sottovoce.models.device import check_device

            check_device(device)
        if beam != 1:  # one always works, and a layout takes time
            self.check_search(language, task, beam)
        if self.exported:
            if device != "cpu":
                raise ValueError(f"{self.name} is an export, which runs on the cpu; found device={device}")
            rules = self.frontend.rules(language, task)
            return Recognizer(self.frontend, self.exported.open(), rules, beam, partial(load, device=device))
        model, _ = self.open()
        model.to(device)
        return replace(Recognizer.of(model, language, task, beam), open_draft=partial(load, device=device))

    def entries(self) -> "tuple[Entry, ...]":
        """The table of its layers."""
        self.check_open("look at")
        if self.artifact:
            return self.artifact.entries
        import torch

        from sottovoce.weights.part import DTYPE_NAMES
        from sottovoce.weights.table import Entry

        model = self.layout()
        return tuple(
            Entry(
                name,
                f"{model.full_name(name)}.weight",
                shape.kind,
                tuple(model.find(name).weight.shape),  # type: ignore[arg-type]
                dtype=DTYPE_NAMES[self.checkpoint.dtypes.get(f"{model.full_name(name)}.weight", torch.float32)],
                kept=shape.rows * shape.columns,
            )
            for name, shape in model.shapes.items()
        )


def find_target(target: str | Path, revision: str | None = None) -> Target:
    """The artifact, export or checkpoint of that name, with its files checked but no weight read.

    Raises ValueError if there is none, or it is damaged, or of a kind that is not supported.
    """
    for is_one, what in ((is_artifact, "an artifact"), (is_exported, "an export")):
        if is_one(target) and revision is not None:
            raise ValueError(f"{target} is {what}, which has no revisions; leave revision out")
    own = Checkpoint(str(target), Path(target), None)
    if is_exported(target):
        found = Target(str(target), own, exported=read_exported(target))
    elif is_artifact(target):
        from sottovoce.artifact.folder import read_artifact

        found = Target(str(target), own, artifact=read_artifact(target))
    else:
        found = Target(str(target), resolve(target, revision))
    supported(found.checkpoint)
    return found


def load(
    target: str | Path,
    revision: str | None = None,
    *,
    language: str | None = None,
    task: str | None = None,
    device: str = "cpu",
    beam: int = 1,
) -> Recognizer:
    """A recognizer of an artifact, run from its packed parts, of an export, on its runtime, or of a checkpoint.

    target is an artifact's folder, an export's, a checkpoint's folder or a hub id. language and task are for models
    that take them ("en", "transcribe"); left out, the checkpoint's own setting holds, and a multilingual
    Whisper without one detects the language of each clip. beam is the number of beams of the search, as num_beams of
    transformers' generate; 1 is greedy search.
    """
    return find_target(target, revision).recognizer(language, task, device, beam)
