"""Transcripts on disk: one JSON line an utterance, written as they come, read back by every score.

A kill can cut the last line; reading drops it and the utterance is transcribed again.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sottovoce.files.documents import parse_json


@dataclass(frozen=True)
class Transcript:
    """One utterance as one target transcribed it. Texts are raw; seconds are of audio and of wall time.

    language            as "de": what the model was prompted with or detected; None where it names none
    reference_language  of the reference, as far as the manifest or the user says it
    """

    id: str
    reference: str
    hypothesis: str
    seconds: float
    decode_seconds: float
    tokens: int
    capped: bool
    speaker: str | None
    fingerprint: str
    language: str | None = None
    reference_language: str | None = None


def read_transcripts(path: Path) -> list[Transcript]:
    """The whole lines of a file; none if it does not exist."""
    if not path.exists():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0]
    found = []
    # not splitlines(): a text may hold U+2028 and its like
    for number, line in enumerate(whole.decode("utf-8").split("\n") if whole else [], 1):
        try:
            found.append(Transcript(**parse_json(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number} is not a transcript ({error}); remove the file to transcribe again"
            ) from None
    return found


def append_transcripts(path: Path, rows: Iterable[Transcript]) -> None:
    """Add whole lines behind the last whole line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(text.encode())
