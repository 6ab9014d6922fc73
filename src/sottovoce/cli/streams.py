"""Standard output and standard error as they may be: an encoding that lacks a character, a pipe that nobody reads.

Neither may end a command that has done its work with an error.
"""

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TextIO

CLOSED_PIPE = 141  # 128 + SIGPIPE, as of any program that writes to `head`
_PLAIN = {"Δ": "delta", "★": "*", "–": "-", "—": "-", "−": "-", "×": "x", "±": "+-", "·": "-", "•": "*", "→": "->"}
_PLAIN |= {"←": "<-", "≤": "<=", "≥": ">=", "≈": "~", "‘": "'", "’": "'", "“": '"', "”": '"', "█": "#"}


@contextmanager
def forgiving() -> Iterator[None]:
    """Within, both streams replace what their encoding lacks, and end the program quietly when their reader is gone."""
    before, failed = (sys.stdout, sys.stderr), False
    sys.stdout, sys.stderr = _wrapped(sys.stdout), _wrapped(sys.stderr)
    try:
        yield
    except SystemExit as end:
        failed = bool(end.code)
        raise
    finally:
        try:
            with suppress(SystemExit) if failed else nullcontext():  # what failed says more than a closed pipe
                sys.stdout.flush()
        finally:
            sys.stdout, sys.stderr = before


def writable(text: str, encoding: str | None) -> str:
    """The text with what an encoding lacks replaced: by what looks alike, else by a question mark."""
    found = encoding or "utf-8"
    try:
        text.encode(found)
    except UnicodeEncodeError:
        return "".join(_replaced(character, found) for character in text)
    return text


def escaped_json(text: str, encoding: str | None) -> str:
    r"""JSON with what an encoding lacks written as \uXXXX, which means the same."""
    found = encoding or "utf-8"
    try:
        text.encode(found)
    except UnicodeEncodeError:
        return re.sub(r"[^\x00-\x7f]", lambda match: _escape(match[0]), text)
    return text


def _replaced(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        wide = unicodedata.east_asian_width(character) in ("W", "F")  # takes two columns of a table
        return _PLAIN.get(character) or _box(character) or _letters(character) or ("??" if wide else "?")
    return character


def _box(character: str) -> str:
    """The lines of a table in ASCII."""
    name = unicodedata.name(character, "")
    if not name.startswith("BOX DRAWINGS"):
        return ""
    if " AND " in name:
        return "+"
    return "|" if name.endswith((" VERTICAL", " UP", " DOWN")) else "-"


def _letters(character: str) -> str:
    """A letter without its accent, a ligature as its letters; nothing of other scripts."""
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _wrapped(stream: TextIO | None) -> Any:
    """None where a program has no console."""
    return _Forgiving(stream or open(os.devnull, "w", encoding="utf-8"))


class _Forgiving:
    """A text stream around another one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text as far as the encoding can."""
        try:
            self._stream.write(writable(text, self._stream.encoding))
        except BrokenPipeError:
            self._leave()
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand everything on."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> None:
        """End the program: what the stream still holds goes nowhere, so that Python's own flush does not complain."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        raise SystemExit(CLOSED_PIPE)
