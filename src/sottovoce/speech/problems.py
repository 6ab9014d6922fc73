"""Many problems in one message: the first ones, how many there are, and where all of them are listed."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sottovoce.files.atomic import write_text

SHOWN = 10


def listed(problems: Sequence[str]) -> str:
    """A line for each of the first problems; where there are more, a file in the temporary folder lists all."""
    lines = list(problems[:SHOWN])
    if more := len(problems) - len(lines):
        lines.append(f"... and {more} more{_written(problems)}")
    return "\n".join(lines)


def _written(problems: Sequence[str]) -> str:
    text = "".join(f"{problem}\n" for problem in problems)
    name = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]  # so that asking again adds no file
    path = Path(tempfile.gettempdir()) / f"sottovoce-problems-{name}.txt"
    try:
        write_text(path, text)
    except (OSError, UnicodeEncodeError):  # the first ones are told all the same
        return ""
    return f"; {path} lists all {len(problems)}"
