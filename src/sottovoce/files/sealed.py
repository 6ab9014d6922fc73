"""A manifest that seals its folder: the hash of every file, and a digest of its own, so that nothing changes unseen.

It also tells which files of a folder are sottovoce's own: only those are ever replaced.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sottovoce.files.atomic import escaped_surrogates, sha256, write_text
from sottovoce.files.documents import parse_json
from sottovoce.files.writable import check_beside


def seal(manifest: Path, document: Mapping[str, Any]) -> str:
    """Write a document with its digest, which comes back."""
    digest = _digest(document)
    text = json.dumps({**document, "digest": digest}, indent=1, ensure_ascii=False)
    write_text(manifest, escaped_surrogates(text) + "\n")
    return digest


def read_sealed(manifest: Path, newest: int, again: str, inside: Callable[[str], bool]) -> dict[str, Any]:
    """The document, its digest included, with every file that its "files" name held against its hash.

    newest  the newest "format" that is understood
    again   what to do about a damaged folder: "compress the model again"
    inside  whether a file of that name lies where it should

    Raises ValueError for a newer format, a missing or changed file, a manifest that was edited.
    """
    folder = manifest.parent
    document = _read(manifest, again)
    found = document.get("format")
    if not isinstance(found, int) or found > newest:
        raise ValueError(
            f"{folder} has format {found}; this version of sottovoce reads up to {newest}; a newer version can read it"
        )
    digest = document.pop("digest", None)
    if digest != _digest(document):
        raise ValueError(f"{manifest} does not match its own digest: it was edited or damaged; {again}")
    for name, expected in document["files"].items():
        if not inside(name):
            raise ValueError(f"{manifest} names a file outside its folder: {name!r}")
        _check(folder / name, expected, manifest, name, again)
    return {**document, "digest": digest}


def own_files(manifest: Path) -> dict[str, bool]:
    """The files below its folder that a manifest lists, itself among them; True where one is as it was written.

    A file that is not there is left out. Empty if there is no manifest, or one whose word cannot be taken: it was
    edited, damaged, or is another program's.
    """
    if not manifest.is_file():
        return {}
    try:
        document = _read(manifest, "")
    except ValueError:
        return {}
    listed, digest = document.get("files"), document.pop("digest", None)
    if not isinstance(listed, dict) or digest != _digest(document):
        return {}
    folder = manifest.parent.resolve()
    found = {manifest.name: True}
    for name, expected in listed.items():
        file = manifest.parent / name
        if file.is_file() and file.parent.resolve().is_relative_to(folder):
            found[name] = sha256(file) == expected
    return found


def unchanged(manifest: Path) -> list[str]:
    """Those of `own_files` that may be replaced or removed."""
    return [name for name, same in own_files(manifest).items() if same]


def check_replaceable(output: Path, what: str, manifest: str, written: Callable[[str], bool]) -> None:
    """Raise ValueError if writing `what` at `output` cannot work, or would destroy what is not sottovoce's own.

    what      "an artifact"
    manifest  the name of its manifest
    written   whether one may hold a file of that name

    Files of other names are no hindrance: they stay.
    """
    check_beside(output)
    kind = what.partition(" ")[2]
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not (output / manifest).is_file():
        raise ValueError(f"output {output} holds files that are no {kind}; name a folder that is new or holds {what}")
    own = own_files(output / manifest)
    if not own:
        raise ValueError(
            f"output {output}: {manifest} there was edited or damaged, so nobody knows which of the files beside it "
            f"are yours; name another folder, or remove that one"
        )
    present = (path.name for path in output.iterdir() if path.is_file())
    theirs = [name for name, same in own.items() if not same]
    theirs += [name for name in present if name not in own and written(name)]
    if theirs:
        raise ValueError(
            f"output {output} holds {' and '.join(sorted(theirs))}, which {what} would replace, and which is not what "
            "sottovoce wrote there; move it, or name another folder"
        )


def _read(manifest: Path, again: str) -> dict[str, Any]:
    try:
        document = parse_json(manifest.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{manifest} cannot be read ({error}); {again}") from None
    return document if isinstance(document, dict) else {}


def _check(file: Path, expected: str, manifest: Path, name: str, again: str) -> None:
    if not file.is_file():
        raise ValueError(f"{manifest.parent} lacks {name}, which its table names; copy the folder again or {again}")
    if sha256(file) != expected:
        raise ValueError(
            f"{file} is damaged: its SHA-256 differs from the one in {manifest.name}; copy it again or {again}"
        )


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
