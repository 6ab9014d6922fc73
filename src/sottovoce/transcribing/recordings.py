"""Which recordings a job has, and what their outputs are called: folders are walked, and no two write the same file."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sottovoce.built_in import built_in_set
from sottovoce.nearest import unknown
from sottovoce.speech.audio import SUFFIXES
from sottovoce.speech.problems import listed


@dataclass(frozen=True)
class Recording:
    """path; its name below the output, as "2024/call.wav"; and that of its outputs without suffix, as "2024/call"."""

    path: Path
    name: str
    stem: str


def checked_inputs(inputs: Sequence[str | Path], *, only_folders: bool = False) -> tuple[Path, ...]:
    """Paths of files and folders that exist; builtin:test and the like stand for their folders.

    only_folders  refuse single files, as for a job that watches

    Raises ValueError that names all that are not there.
    """
    paths = tuple(built_in_set(item) or Path(item) for item in inputs)
    problems = [
        f"there is no file or folder {path}; give recordings, or folders of them" for path in paths if not path.exists()
    ]
    if only_folders:
        problems += [f"{path} is a file; watch a folder" for path in paths if path.is_file()]
    if not paths:
        problems = ["no recording was named; give files or folders"]
    if problems:
        raise ValueError(listed(problems))
    return paths


def find_recordings(inputs: Sequence[Path], *, may_be_empty: bool = False) -> list[tuple[Path, PurePosixPath]]:
    """Each file with its name below the output, by names: its own, or its place within the folder that was given.

    A file that is named twice is there once. What begins with a dot is not looked into. Raises ValueError for a
    folder that holds no audio, unless it may be empty for now.
    """
    found: dict[str, tuple[Path, PurePosixPath]] = {}
    for place in inputs:
        inside = list(_walk(place)) if place.is_dir() else [(place, PurePosixPath(place.name))]
        if not inside and not may_be_empty:
            raise ValueError(f"folder {place} holds no audio; files that end in {', '.join(SUFFIXES)} are looked for")
        for path, name in inside:
            found.setdefault(os.path.realpath(path), (path, name))
    return sorted(found.values(), key=lambda pair: (pair[1], pair[0]))


def named(found: Sequence[tuple[Path, PurePosixPath]], earlier: Sequence[Recording] = ()) -> list[Recording]:
    """Recordings whose outputs have names of their own: a.wav beside a.mp3 writes a.wav.txt and not a.txt.

    earlier  recordings that have their names already

    Raises ValueError where two would write the same file even so.
    """
    stems = Counter([*(str(name.with_suffix("")) for _, name in found), *(one.stem for one in earlier)])
    made = []
    for path, name in found:
        stem = str(name.with_suffix(""))
        made.append(Recording(path, str(name), stem if stems[stem] == 1 else str(name)))
    for place, one in enumerate(made):
        others = [*earlier, *made[:place]]
        if other := next((each for each in others if each.name == one.name or each.stem == one.stem), None):
            raise ValueError(
                f"{one.path} and {other.path} would write the same files, {one.stem}; give each an output of its own"
            )
    return made


def _walk(folder: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(place) / name
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path, PurePosixPath(path.relative_to(folder).as_posix())


def checked_choice(what: str, name: str, known: Sequence[str]) -> str:
    """The name. Raises ValueError unless it is one of those that are known."""
    if name not in known:
        raise unknown(what, name, known)
    return name
