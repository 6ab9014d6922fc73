"""What a compression that trains keeps beside its output until it is done, and goes on from when it was killed.

<output>.unfinished/
  plan.json      what was asked: model, recipe, data; another plan is refused
  start-<n>/     the artifact as segment <n> of the recipe, which trains, began
  step-<n>/      the state of that training
  heard-*.jsonl  the uncompressed model's transcripts of the training audio

What else lies in the folder is not touched.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sottovoce.artifact.base import is_artifact
from sottovoce.files.atomic import json_text, write_text
from sottovoce.training.state import TrainingFolder

PLAN = "plan.json"
# With what a kill left of one that was being written: ".start-0.new-abc", ".plan.json.abc"
_OWN_FOLDER = re.compile(r"\.?(start|step)-\d+(\.(new|old)-\w+)?")
_OWN_FILE = re.compile(r"\.?(plan\.json|heard-\w+\.jsonl)(\.\w+)?")


class Unfinished:
    """The folder beside an output."""

    def __init__(self, output: Path) -> None:
        self.folder = output.absolute().with_name(f"{output.absolute().name}.unfinished")

    def claim(self, plan: Mapping[str, Any]) -> None:
        """Take the folder for a plan.

        Raises ValueError if it holds something else, or another plan's work: then with the difference.
        """
        path = self.folder / PLAN
        if not path.is_file():
            if self.folder.is_dir() and (others := sorted(item.name for item in self.folder.iterdir())):
                raise ValueError(
                    f"{self.folder} is where this compression keeps its state, and holds other files ({others[0]}); "
                    "move it, or name another output"
                )
            write_text(path, json_text(plan))
            return
        asked = dict(_flat(json.loads(json_text(plan))))
        found = dict(_flat(json.loads(path.read_text(encoding="utf-8"))))
        changed = [
            f"{name} was {found.get(name, 'not there')}, is {asked.get(name, 'not there')}"
            for name in dict.fromkeys([*found, *asked])
            if found.get(name) != asked.get(name)
        ]
        if changed:
            raise ValueError(
                f"{self.folder} holds an unfinished compression that differs: {'; '.join(changed)}; ask for the "
                "same again to finish it, or delete that folder"
            )

    def start(self, number: int) -> Path:
        """Where the artifact lies from which segment `number` begins."""
        return self.folder / f"start-{number}"

    def latest(self) -> int | None:
        """The last segment that began to train; None if none did."""
        numbers = [int(path.name.removeprefix("start-")) for path in self.folder.glob("start-*") if is_artifact(path)]
        return max(numbers, default=None)

    def curves(self, first: int = 0) -> list[dict[str, Any]]:
        """The curves of all trainings in turn, each line with the number of its training from `first`."""
        folders = sorted(self.folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
        numbered = enumerate(folders, start=first)
        return [{"training": i, **line} for i, path in numbered for line in TrainingFolder(path).curve()]

    def remove(self) -> None:
        """Forget all, once the output stands; a file of another name stays, and the folder with it."""
        if not self.folder.is_dir():
            return
        for item in sorted(self.folder.iterdir()):
            if item.is_dir() and _OWN_FOLDER.fullmatch(item.name):
                shutil.rmtree(item, ignore_errors=True)
            elif item.is_file() and _OWN_FILE.fullmatch(item.name):
                item.unlink()
        with suppress(OSError):  # something stays in it
            self.folder.rmdir()


def _flat(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf of a document with the path to it."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    if not items and not isinstance(document, (dict, list)):
        yield path, str(document)
    for key, value in items:
        yield from _flat(value, f"{path}.{key}" if path else str(key))
