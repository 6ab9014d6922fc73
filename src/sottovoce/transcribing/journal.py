"""The journal of a recording: what a job has finished of it, a line each, so that a kill loses one stretch at most.

JSON lines. The first says what is transcribed with what; then come the stretches, the ends of channels, and the
outputs that are about to be written, with their hashes, by which they are known as the job's own. What a kill or a
full disk cut, a last line without its end, is dropped when the journal goes on.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sottovoce.files.atomic import escaped_surrogates
from sottovoce.recognition.segment import Segment, Stretch

FORMAT = 1
FOLDER = ".sottovoce"


@dataclass(frozen=True)
class Made:
    """A finished stretch, of one channel where each is a speaker; wall is the seconds that it took."""

    channel: int | None
    stretch: Stretch
    wall: float


@dataclass
class Journal:
    """What one says, and where it goes on.

    header  of `begin`: "journal" (its format), "model", "options", "channels", "audio"
    made    stretches in the order in which they were finished
    ended   channels that are transcribed to their end
    writes  outputs below the job's folder, with the SHA-256 of what was last written there
    fault   whether the recording was found to be broken the last time
    length  bytes of its whole lines
    """

    path: Path
    header: dict[str, Any]
    made: list[Made] = field(default_factory=list)
    ended: set[int | None] = field(default_factory=set)
    writes: dict[str, str] = field(default_factory=dict)
    fault: bool = False
    length: int = 0

    @property
    def finished(self) -> bool:
        """Whether every channel has ended."""
        return self.ended == set(self.header["channels"])

    def reached(self, channel: int | None) -> float:
        """The second to which a channel is transcribed."""
        return max((one.stretch.end for one in self.made if one.channel == channel), default=0.0)

    def add(self, made: Made) -> None:
        """Keep a finished stretch."""
        self._append({"stretch": asdict(made.stretch), "channel": made.channel, "wall": round(made.wall, 3)})

    def end(self, channel: int | None) -> None:
        """Keep that a channel is transcribed to its end."""
        self._append({"ended": channel})

    def broken(self, sentence: str) -> None:
        """Keep that the recording is broken, where the last line does not say so."""
        if not self.fault:
            self._append({"fault": sentence})

    def announce(self, writes: Mapping[str, str]) -> None:
        """Keep what is about to be written: before it is, since what lies there is then known whenever a kill comes."""
        if any(self.writes.get(name) != digest for name, digest in writes.items()):
            self._append({"writes": dict(writes)})

    def _append(self, document: dict[str, Any]) -> None:
        line = _line(document)
        with self.path.open("r+b") as file:
            file.seek(self.length)
            file.truncate()
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.length += len(line)
        _take(self, json.loads(line))


def begin(path: Path, header: Mapping[str, Any]) -> Journal:
    """A new journal with its first line; an older one goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = _line({"journal": FORMAT, **header})
    path.write_bytes(line)
    return Journal(path, json.loads(line), length=len(line))


def read_journal(path: Path) -> Journal | None:
    """What its whole lines say, up to one that cannot be read; None without a file or a whole first line.

    Raises ValueError for a file that is no journal, or one of a newer format.
    """
    if not path.is_file():
        return None
    first, *lines = path.read_bytes().split(b"\n")
    if not lines:
        return None
    header = _document(first)
    if header is None or "journal" not in header:
        raise ValueError(f"{path} is no journal of a transcription; move it away")
    if header["journal"] > FORMAT:
        raise ValueError(f"{path} has format {header['journal']}; this version of sottovoce reads up to {FORMAT}")
    journal = Journal(path, header, length=len(first) + 1)
    for line in lines[:-1]:  # behind the last line's end stands what was cut
        document = _document(line)
        if document is None:
            break
        _take(journal, document)
        journal.length += len(line) + 1
    return journal


def _take(journal: Journal, document: dict[str, Any]) -> None:
    if "stretch" in document:
        journal.made.append(Made(document["channel"], _stretch(document["stretch"]), document["wall"]))
        journal.fault = False
    elif "ended" in document:
        journal.ended.add(document["ended"])
        journal.fault = False
    elif "fault" in document:
        journal.fault = True
    else:
        journal.writes |= document["writes"]


def _stretch(document: dict[str, Any]) -> Stretch:
    segments = tuple(Segment.of_document(segment) for segment in document["segments"])
    guards = tuple((str(name), int(count)) for name, count in document["guards"])
    return Stretch(document["start"], document["end"], document["speech"], segments, guards)


def _document(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _line(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return f"{escaped_surrogates(text)}\n".encode()
