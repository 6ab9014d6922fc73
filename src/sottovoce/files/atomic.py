"""Files written so that a kill, a full disk or a second run leaves either the old or the new, never a half."""

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def json_text(document: Any) -> str:
    """JSON for a person and any parser: indented, UTF-8; a number that is not finite has no word there and is null."""
    text = json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False, default=str)
    return escaped_surrogates(text) + "\n"


def escaped_surrogates(text: str) -> str:
    r"""JSON with halves of characters, as in names of files that are not UTF-8, written as \udcXX, which means them."""
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json_lines(path: Path) -> list[Any]:
    """The documents of a JSON-lines file that is being written, up to a line that a kill cut; none without the file."""
    found: list[Any] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes of this machine; the lock goes with the process, however that ends.

    Its file lies with the temporary ones, so that nothing is left in a folder where nothing was written. Raises
    ValueError if another process holds it.
    """
    from filelock import FileLock, Timeout

    place = hashlib.sha256(f"{Path.home()} {folder.resolve()}".encode()).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"sottovoce-{place}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another process is working in {folder}; wait until it is done, stop it, or name another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
