"""An exported model: a folder that a runtime takes, and that is measured as it is.

encoder.onnx ...    what the runtime opens
export.json         format, runtime, what it was made from, what it cannot say, its self-test's result, hashes
config.json ...     the processor's and model's own files, so that nothing else is needed
selftest/           some speech, and what the artifact makes of it
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from sottovoce.artifact.base import Base
from sottovoce.files.atomic import sha256
from sottovoce.files.sealed import read_sealed, seal
from sottovoce.models.bounds import Bounds
from sottovoce.models.checkpoint import Checkpoint
from sottovoce.models.companions import check_listed
from sottovoce.models.frontend import Frontend, open_frontend
from sottovoce.targets import find_engine
from sottovoce.targets.agreement import Output, SelfTest
from sottovoce.targets.engine import AnyEngine, EngineKind

FORMAT = 2
MANIFEST = "export.json"


@dataclass(frozen=True)
class Source:
    """What an export was made from: an artifact, or an uncompressed checkpoint, whose digest is then its base's."""

    model: str
    digest: str
    recipes: tuple[Mapping[str, Any], ...]
    fingerprints: tuple[str, ...]


@dataclass(frozen=True)
class Exported:
    """What export.json says. `tested` is None until the self-test has run where it was made.

    bounds  the clips that it transcribes; the model's own if None
    """

    folder: Path
    runtime: str
    base: Base
    source: Source
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    files: Mapping[str, str]
    tested: SelfTest | None = None
    bounds: Bounds | None = None
    digest: str = field(default="")

    @property
    def kind(self) -> EngineKind:
        """What runs it."""
        return find_engine(self.runtime)

    @property
    def bytes(self) -> int:
        """The bytes of what the runtime opens."""
        return sum(file.stat().st_size for file in self.kind.opened(self.folder))

    def frontend(self) -> Frontend:
        """Its features, its text and its rules, within its bounds."""
        frontend = open_frontend(Checkpoint(str(self.folder), self.folder, None))
        frontend.runtime_bounds = self.bounds
        return frontend

    @property
    def fitted_fingerprints(self) -> frozenset[str]:
        """The audio that its artifact was calibrated or trained on."""
        return frozenset(self.source.fingerprints)

    def open(self, threads: int | None = None) -> AnyEngine:
        """The engine, with a warning if it computes wrong sums on this CPU.

        Raises ValueError if the runtime is not installed in a version that was tested.
        """
        kind = self.kind
        check_installed(kind)
        if self.tested and not self.tested.passed:
            warnings.warn(
                f"{self.folder} failed its self-test when it was exported: what it computes is not what "
                f"{self.source.model} does (sottovoce selftest says where)",
                stacklevel=2,
            )
        if kind.saturates(self.folder):
            warnings.warn(f"{self.folder}: {saturation(kind)}", stacklevel=2)
        try:
            return kind.open(self.folder, threads)
        except (RuntimeError, OSError) as error:
            told = str(error).splitlines()[0]
            raise ValueError(f"{self.folder}: {kind.title} cannot open it ({told}); export the model again") from None

    def write(self) -> "Exported":
        """Write export.json into its folder, with the hashes of all that lies there."""
        names = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name != MANIFEST)
        hashed = {path.relative_to(self.folder).as_posix(): sha256(path) for path in names}
        made = replace(self, files=hashed)
        return replace(made, digest=seal(self.folder / MANIFEST, made.as_document()))

    def as_document(self) -> dict[str, Any]:
        """The content of export.json without its own digest."""
        found = {name: value for name, value in asdict(self).items() if name not in ("folder", "digest")}
        return {"format": FORMAT, **found}


def saturation(kind: EngineKind) -> str:
    """What it means that a runtime's products saturate here."""
    return (
        f"{kind.title}'s 8-bit products saturate on this CPU, which has no VNNI: they are summed in 16 bits, so "
        "large sums come out too small; use another runtime, or a CPU with VNNI"
    )


def is_exported(folder: str | Path) -> bool:
    """Whether a folder holds an export, whole or not."""
    return (Path(folder) / MANIFEST).is_file()


def read_exported(folder: str | Path) -> Exported:
    """The export in a folder, with every file held against its hash before a runtime sees it.

    Raises ValueError for a newer format, a missing or changed file, a manifest that was edited.
    """
    folder = Path(folder)

    def inside(name: str) -> bool:
        return (folder / name).resolve().is_relative_to(folder.resolve())

    document = read_sealed(folder / MANIFEST, FORMAT, "export the model again", inside)
    check_listed(folder, document["files"])
    source, bounds, tested = document["source"], document.get("bounds"), document["tested"]
    return Exported(
        folder,
        document["runtime"],
        Base(**document["base"]),
        Source(source["model"], source["digest"], tuple(source["recipes"]), tuple(source["fingerprints"])),
        tuple(document["notes"]),
        document["versions"],
        document["files"],
        _tested(tested) if document["format"] == FORMAT else None,
        None if bounds is None else Bounds(**bounds),
        document["digest"],
    )


def _tested(document: Mapping[str, Any] | None) -> SelfTest | None:
    """What is said of a self-test; that of format 1 compared words, and is read as none."""
    if document is None:
        return None
    outputs = tuple(Output(**each) for each in document["outputs"])
    return SelfTest(**{**document, "outputs": outputs, "missing": tuple(document["missing"])})


class Needing(Protocol):
    """What needs packages: a runtime, or a peer of `bench`."""

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def packages(self) -> Mapping[str, str]: ...  # noqa: D102


def check_installed(runtime: Needing) -> dict[str, str]:
    """The installed versions of the packages that a runtime or a peer needs.

    Raises ValueError if one is missing or of a version that was not tested.
    """
    found = {}
    for name, tested in runtime.packages.items():
        cure = f'pip install "{name}=={tested}.*"'
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise ValueError(f"{runtime.title} needs {name} {tested}, which is not installed; {cure}") from None
        if found[name].split(".")[: len(tested.split("."))] != tested.split("."):
            raise ValueError(f"{runtime.title} was tested with {name} {tested} and finds {found[name]}; {cure}")
    return found
