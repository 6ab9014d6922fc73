"""A run's folder: which targets transcribed which data under which settings, and where the transcripts lie.

run.json                                  targets, data, settings, versions
transcripts/<target>/<data>.jsonl         raw hypotheses
transcripts/<target>/<data>.score.json    the score made from them
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from sottovoce.files.atomic import json_text, write_text
from sottovoce.files.documents import parse_json
from sottovoce.files.writable import check_folder
from sottovoce.measure.score import Score
from sottovoce.measure.transcripts import Transcript, read_transcripts
from sottovoce.recognition.spoken import Spoken
from sottovoce.recognition.target import Target
from sottovoce.speech.datasets import Corpus, LeftOut
from sottovoce.versions import versions

FORMAT = 1
_LONGEST = 120  # characters of a name; a file system takes 255 with what is added


@dataclass(frozen=True)
class RunTarget:
    """A target as a run remembers it.

    notes   say where its prompt comes from, if not all from its generation config
    engine  what transcribed with it when the run began; "" in older runs
    """

    name: str
    digest: str
    base_digest: str
    bytes: int
    notes: tuple[str, ...] = ()
    engine: str = ""

    @staticmethod
    def of(target: Target) -> "RunTarget":
        """What a run keeps of a target."""
        notes = target.frontend.prompt_notes
        return RunTarget(target.name, target.digest, target.base_digest, target.bytes, notes, target.engine)

    @property
    def folder(self) -> str:
        """Its folder's name: readable, and different for different weights."""
        return f"{slug(Path(self.name).name)}-{self.digest[:8]}"


@dataclass(frozen=True)
class RunData:
    """A data set as a run remembers it: the digest covers ids, texts, audio and languages of what is used.

    left_out  the clips that are not, since one of the targets cannot use them
    """

    name: str
    path: str
    digest: str
    utterances: int
    seconds: float
    left_out: tuple[LeftOut, ...] = ()

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "RunData":
        """The data set of a run.json; older ones left nothing out."""
        return RunData(**{**document, "left_out": tuple(LeftOut(**clip) for clip in document.get("left_out", ()))})

    @staticmethod
    def of(corpus: Corpus, marks: Sequence[str]) -> "RunData":
        """What a run keeps of a corpus; marks are its fingerprints."""
        lines = [
            f"{u.id}\t{mark}\t{u.text}" + (f"\t{u.language}" if u.language else "")
            for u, mark in zip(corpus.utterances, marks, strict=True)
        ]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        seconds = round(corpus.total_seconds, 3)
        return RunData(corpus.name, str(corpus.path), digest, len(corpus), seconds, corpus.left_out)

    @property
    def file(self) -> str:
        """The stem of its files."""
        return f"{slug(self.name)}-{self.digest[:8]}"


@dataclass
class Run:
    """The content of run.json, and the ways to the files beside it."""

    folder: Path
    settings: Mapping[str, Any]
    targets: list[RunTarget] = field(default_factory=list)
    data: list[RunData] = field(default_factory=list)

    def transcripts_path(self, target: RunTarget, data: RunData) -> Path:
        """Where the transcripts of a target on a data set lie."""
        return self.folder / "transcripts" / target.folder / f"{data.file}.jsonl"

    def transcripts(self, target: RunTarget, data: RunData) -> list[Transcript]:
        """The transcripts that are there; older files do not say the language that was asked for the whole run."""
        spoken = Spoken(self.settings.get("language"), self.settings.get("task"))
        found = read_transcripts(self.transcripts_path(target, data))
        return [replace(row, reference_language=spoken.of_reference(row.reference_language)) for row in found]

    def complete(self, target: RunTarget, data: RunData) -> bool:
        """Whether every utterance has its transcript."""
        return len(self.transcripts(target, data)) == data.utterances

    def write_score(self, target: RunTarget, data: RunData, score: Score) -> None:
        """Keep a score beside its transcripts."""
        path = self.transcripts_path(target, data).with_suffix(".score.json")
        write_text(path, json_text(score.as_document()))

    def baseline_of(self, target: RunTarget) -> RunTarget | None:
        """The uncompressed model behind a target, if this run transcribed with it and it is another."""
        return next((other for other in self.targets if other.digest == target.base_digest != target.digest), None)

    def find(self, name: str) -> RunTarget:
        """A target by its name, or by the last part of it. Raises ValueError that lists those there are."""
        found = [t for t in self.targets if t.name.rstrip("/") == name.rstrip("/")]
        found = found or [t for t in self.targets if Path(t.name).name == Path(name).name]
        if len(found) != 1:
            names = ", ".join(t.name for t in self.targets)
            count = "no target" if not found else f"{len(found)} targets"
            raise ValueError(f"{self.folder} has {count} called {name!r}; there are {names}")
        return found[0]

    def new_data(self, targets: Sequence[RunTarget], data: Sequence[RunData]) -> list[RunData]:
        """Those of `data` that the run does not know. Raises ValueError if a known name is another now."""
        _new("target", self.targets, targets, self.folder)
        return _new("data", self.data, data, self.folder)

    def add(self, targets: Sequence[RunTarget], data: Sequence[RunData]) -> None:
        """Remember more targets and data. Raises ValueError if one of a known name is another now."""
        self.targets += _new("target", self.targets, targets, self.folder)
        self.data += _new("data", self.data, data, self.folder)

    def write(self) -> None:
        """Write run.json."""
        document = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "targets": [asdict(target) for target in self.targets],
            "data": [asdict(data) for data in self.data],
            "versions": versions("sottovoce", "torch", "transformers"),
        }
        write_text(self.folder / "run.json", json_text(document))


Known = TypeVar("Known", RunTarget, RunData)


def _new(kind: str, known: Sequence[Known], asked: Sequence[Known], folder: Path) -> list[Known]:
    """Those of `asked` that are not known yet. Raises ValueError if a known name stands for something else now."""
    digests = {item.name: item.digest for item in known}
    for item in asked:
        if digests.get(item.name, item.digest) != item.digest:
            raise ValueError(
                f"{folder} holds transcripts of another {kind} called {item.name}, which has changed since; "
                "name a new output folder"
            )
    return [item for item in asked if item.name not in digests]


def read_run(folder: str | Path) -> Run:
    """The run in a folder. Raises ValueError if there is none."""
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no run.json; give a folder that `sottovoce evaluate --output` has written")
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
        if document["format"] > FORMAT:
            raise ValueError(f"format {document['format']} is newer than {FORMAT}")
        return Run(
            folder,
            document["settings"],
            [RunTarget(**{**target, "notes": tuple(target.get("notes", ()))}) for target in document["targets"]],
            [RunData.of_document(data) for data in document["data"]],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} cannot be read ({error}); evaluate again into a new folder") from None


def open_run(folder: Path, settings: Mapping[str, Any]) -> Run:
    """The run in a folder, or a new one. Raises ValueError if it was made under other settings."""
    if not (folder / "run.json").exists():
        return Run(folder, settings)
    run = read_run(folder)
    if dict(run.settings) != dict(settings):
        raise ValueError(
            f"{folder} was made with {dict(run.settings)}, asked for now is {dict(settings)}; name a new output folder"
        )
    return run


def check_output(output: Path) -> None:
    """Raise ValueError if results cannot be written into `output`, or if a checkpoint lies there.

    In an artifact's folder and an export's they are welcome: the manifest tells whose each file is, so results are
    neither taken for the model's nor lost when it is written anew. A checkpoint has none, and may be the hub's cache.
    """
    check_folder(output)
    sealed = any((output / name).is_file() for name in ("sottovoce.json", "export.json"))
    weights = any(path.suffix in (".safetensors", ".bin") for path in output.glob("*.*"))
    if weights and not sealed and (output / "config.json").is_file():
        raise ValueError(
            f"output {output} is a checkpoint's folder, and results need one of their own; {output}-results would work"
        )


def slug(name: str) -> str:
    """A name that any file system takes, with room for what is added to it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_LONGEST].strip("-.") or "unnamed"
