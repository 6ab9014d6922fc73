"""A manifest that seals its folder: the hash of every file, and a digest of its own, so that nothing changes unseen."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sottovoce.documents import parse_json
from sottovoce.files import sha256, write_text


def seal(manifest: Path, document: Mapping[str, Any]) -> str:
    """Write a document with its digest, which comes back."""
    digest = _digest(document)
    text = json.dumps({**document, "digest": digest}, indent=1, ensure_ascii=False)
    write_text(manifest, text + "\n")
    return digest


def read_sealed(manifest: Path, newest: int, again: str, inside: Callable[[str], bool]) -> dict[str, Any]:
    """The document, its digest included, with every file that its "files" name held against its hash.

    newest  the newest "format" that is understood
    again   what to do about a damaged folder: "compress the model again"
    inside  whether a file of that name lies where it should

    Raises ValueError for a newer format, a missing or changed file, a manifest that was edited.
    """
    folder = manifest.parent
    try:
        document = parse_json(manifest.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{manifest} cannot be read ({error}); {again}") from None
    found = document.get("format") if isinstance(document, dict) else None
    if not isinstance(found, int) or found > newest:
        raise ValueError(f"{folder} has format {found}; this sottovoce reads up to {newest}, a newer one will read it")
    digest = document.pop("digest", None)
    if digest != _digest(document):
        raise ValueError(f"{manifest} does not match its own digest: it was edited or damaged; {again}")
    for name, expected in document["files"].items():
        if not inside(name):
            raise ValueError(f"{manifest} names a file outside its folder: {name!r}")
        _check(folder / name, expected, manifest, name, again)
    return {**document, "digest": digest}


def _check(file: Path, expected: str, manifest: Path, name: str, again: str) -> None:
    if not file.is_file():
        raise ValueError(f"{manifest.parent} lacks {name}, which its table names; copy the folder again or {again}")
    if sha256(file) != expected:
        raise ValueError(
            f"{file} is damaged: its SHA-256 differs from the one in {manifest.name}; copy it again or {again}"
        )


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
