"""A corpus on disk as a tuple of utterances, checked whole before anything is decoded.

Three layouts: a JSON-lines manifest, a folder of audio with a .txt beside each, LibriSpeech's own.
"""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sottovoce.built_in import built_in_set
from sottovoce.files.documents import parse_json
from sottovoce.speech import audio
from sottovoce.speech.decoded import AudioError
from sottovoce.speech.languages import checked_code
from sottovoce.speech.problems import listed

MANIFEST = "manifest.jsonl"
AUDIO_SUFFIXES = audio.SUFFIXES
LONGEST = 1e9  # seconds that a manifest may give a clip


@dataclass(frozen=True)
class Utterance:
    """One recording and what was said in it, as far as known; language is a code as "de"."""

    id: str
    audio: Path
    text: str | None
    speaker: str | None
    seconds: float
    language: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A clip that is not used, and the sentence that says why."""

    id: str
    audio: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """Utterances in the order of their manifest, and the clips that are not among them since they cannot be used."""

    name: str
    path: Path
    utterances: tuple[Utterance, ...]
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def clips(self) -> int:
        """How many there are with those that are left out."""
        return len(self.utterances) + len(self.left_out)

    @property
    def total_seconds(self) -> float:
        """Seconds of audio."""
        return math.fsum(utterance.seconds for utterance in self.utterances)

    def fingerprints(self) -> tuple[str, ...]:
        """The identity of each audio file, in order; reads every file's bytes."""
        return tuple(audio.fingerprint(utterance.audio) for utterance in self.utterances)

    def select(self, limit: int | None, seed: int) -> "Corpus":
        """A random sample of `limit` utterances, in the corpus's order; None is all of them.

        With one seed a smaller sample lies within a larger one. What is left out is drawn too, and stays left out.
        Raises ValueError if the corpus has fewer than `limit`, or limit is below 1.
        """
        if limit is None:
            return self
        if not 1 <= limit <= self.clips:
            raise ValueError(f"{limit} utterances asked of {self.path}, which has {self.clips}; 1 to {self.clips} work")
        ids = [*(utterance.id for utterance in self.utterances), *(clip.id for clip in self.left_out)]
        chosen = set(random.Random(seed).sample(ids, len(ids))[:limit])
        return replace(
            self,
            utterances=tuple(u for u in self.utterances if u.id in chosen),
            left_out=tuple(clip for clip in self.left_out if clip.id in chosen),
        )


Rows = Iterator[tuple[str, Callable[[], Utterance]]]  # where a row stands, and how to read it


class _UnusableError(ValueError):
    """A row that is as it should be, of a clip that cannot be used."""

    def __init__(self, clip: LeftOut) -> None:
        super().__init__(clip.reason)
        self.clip = clip


def read_corpus(path: str | Path, *, need_text: bool = True, leave_out: bool = False) -> Corpus:
    """The corpus at `path`: a JSON-lines manifest, or a folder in one of three layouts, or builtin:test.

    manifest     a line each: {"audio", "text"}, optionally "speaker", "seconds", "id", "language" (of the text and
                 the audio: a code or an English name, as de, zh-CN, german); others are ignored. Audio is relative
                 to the manifest's folder; id defaults to the audio path as written.
    folder       with a manifest.jsonl, that; or audio files at any depth, a .txt of the same stem beside each
    LibriSpeech  <speaker>-<chapter>.trans.txt beside its audio

    need_text=False takes rows without text, for calibration. leave_out=True puts clips whose audio is missing, or
    cannot be used by its header, into `left_out`. All rows are read before the first refusal: a ValueError that names
    file and line of what is wrong.
    """
    path = Path(path)
    own = built_in_set(path)
    if own is not None:
        name, rows = str(path), _manifest(own / MANIFEST, need_text)
    elif path.is_file():
        name, rows = path.stem, _manifest(path, need_text)
    elif path.is_dir():
        name = path.resolve().name
        if (path / MANIFEST).is_file():
            rows = _manifest(path / MANIFEST, need_text)
        else:
            transcripts = sorted(path.rglob("*.trans.txt"))
            rows = _librispeech(transcripts, need_text) if transcripts else _folder(path, need_text)
    else:
        raise ValueError(
            f"there is no corpus {path}; give a JSON-lines manifest (audio and text in each line), a folder "
            f"of audio with a .txt beside each, or a LibriSpeech folder"
        )
    return Corpus(name, path, *_read_all(path, rows, leave_out))


def _read_all(path: Path, rows: Rows, leave_out: bool) -> tuple[tuple[Utterance, ...], tuple[LeftOut, ...]]:
    """Every row, and the clips left out; or one ValueError with the problems and how many there are."""
    found: list[Utterance | LeftOut] = []
    places: dict[str, str] = {}
    problems: list[str] = []
    for place, read in rows:
        try:
            found.append(read())
        except _UnusableError as error:
            if not leave_out:
                problems.append(f"{place}: {error}")
                continue
            found.append(error.clip)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        if (identity := found[-1].id) in places:
            problems.append(f"{place}: id {identity!r} was used in {places[identity]}; give each row an id of its own")
        places[identity] = place
    if problems:
        raise ValueError(listed(problems))
    if not found:
        raise ValueError(
            f"{path} holds no utterance; a manifest has one JSON object a line, a folder has "
            f"{', '.join(AUDIO_SUFFIXES)} files"
        )
    utterances = tuple(row for row in found if isinstance(row, Utterance))
    return utterances, tuple(row for row in found if isinstance(row, LeftOut))


def _manifest(path: Path, need_text: bool) -> Rows:
    # not splitlines(): a JSON string may hold U+2028 and its like
    for number, line in enumerate(_text_file(path).split("\n"), start=1):
        if line.strip():
            yield f"{path} line {number}", partial(_manifest_row, path.parent, line, need_text)


def _manifest_row(folder: Path, line: str, need_text: bool) -> Utterance:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise ValueError(f"{error}; write one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f'an object is needed, not {_kind(row)}; write {{"audio": ..., "text": ...}}')
    written = _string(row, "audio")
    if not written:
        raise ValueError("lacks the key 'audio'; give the path of its audio file")
    text = _string(row, "text")
    if text is None and need_text:
        raise ValueError("lacks the key 'text'; give what is said, \"\" for silence")
    identity, speaker, language = _string(row, "id"), _string(row, "speaker"), _string(row, "language")
    length = row.get("seconds")
    if length is not None and (type(length) not in (int, float) or not 0 < length < LONGEST):
        raise ValueError(f"'seconds' must be a positive number, not {json.dumps(length)}; or leave it out")
    found = _utterance(identity or written, folder / written, text, speaker, length)
    return replace(found, language=checked_code(language)) if language else found


def _string(row: dict[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key!r} must be a string, not {_kind(value)}; write it in quotes")
    if value is not None and (half := _half_character(value)):
        raise ValueError(f"{key!r} holds half a character, \\u{ord(half):04x}; write the whole one, in UTF-8")
    return value


def _half_character(text: str) -> str | None:
    """A surrogate without its other half, which no file of text can hold; JSON's escapes can write one."""
    return next((character for character in text if 0xD800 <= ord(character) <= 0xDFFF), None)


def _kind(value: object) -> str:
    """What JSON calls it."""
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return kinds.get(type(value), "null" if value is None else "an object")


def _folder(path: Path, need_text: bool) -> Rows:
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file():
            yield str(file), partial(_folder_row, path, file, need_text)


def _folder_row(folder: Path, file: Path, need_text: bool) -> Utterance:
    beside = file.with_suffix(".txt")
    if not beside.is_file() and need_text:
        raise ValueError(f"its text {beside} is missing; write it, or give a JSON-lines manifest")
    text = _text_file(beside).strip() if beside.is_file() else None
    return _utterance(file.relative_to(folder).as_posix(), file, text, None, None)


def _librispeech(transcripts: list[Path], need_text: bool) -> Rows:
    for transcript in transcripts:
        for number, line in enumerate(_text_file(transcript).split("\n"), start=1):
            if line.strip():
                yield f"{transcript} line {number}", partial(_librispeech_row, transcript, line, need_text)


def _librispeech_row(transcript: Path, line: str, need_text: bool) -> Utterance:
    identity, _, text = line.strip().partition(" ")
    if not text and need_text:
        raise ValueError(f'no text after {identity!r}; write "<speaker>-<chapter>-<number> WORDS"')
    files = (transcript.with_name(identity + suffix) for suffix in AUDIO_SUFFIXES)
    file = next((f for f in files if f.is_file()), transcript.with_name(f"{identity}.flac"))
    return _utterance(identity, file, text or None, identity.split("-")[0], None)


def _utterance(identity: str, file: Path, text: str | None, speaker: str | None, length: float | None) -> Utterance:
    if _half_character(identity):
        raise ValueError(f"{file} has a name that is not text in UTF-8; rename it")
    try:
        if not file.is_file():
            raise AudioError(f"audio file {file} is missing; paths are relative to the folder of the list")
        seconds = audio.seconds(file) if length is None else float(length)
    except AudioError as error:
        raise _UnusableError(LeftOut(identity, str(file), str(error))) from error
    return Utterance(identity, file, text, speaker, seconds)


def _text_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8; a manifest or transcript must be") from None
