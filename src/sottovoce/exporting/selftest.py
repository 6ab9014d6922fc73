"""The self-test that ships in an export: some speech, what the artifact heard in it, and how much may differ.

An export is only declared good when it hears the same. Where a runtime multiplies as torch does, the very same words;
where it rounds activations in its own way, nearly.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sottovoce.documents import parse_json
from sottovoce.exporting.folder import Exported, SelfTest
from sottovoce.files import json_text, write_text
from sottovoce.models import open_layout
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import Checkpoint
from sottovoce.models.decoding import Decoded
from sottovoce.progress import Track, silent
from sottovoce.recognizer import Recognizer
from sottovoce.speech.datasets import Utterance, read_corpus
from sottovoce.speech.wer import align

FOLDER, LIST = "selftest", "expected.json"
CLIPS = 8
ALLOWED = 5.0  # percent of the words, where activations are rounded to integers


@dataclass(frozen=True)
class Expected:
    """One clip of a self-test: the audio file's name, what the artifact said, as tokens and as text."""

    audio: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Heard:
    """What an engine said where `expected` was."""

    expected: Expected
    tokens: tuple[int, ...]
    text: str

    @property
    def differing(self) -> int:
        """Words."""
        return align(self.expected.text, self.text).errors


def make(recognizer: Recognizer, folder: Path, allowed: float) -> None:
    """Write a self-test into the folder of an export: speech that comes with sottovoce, heard by `recognizer`."""
    into = folder / FOLDER
    into.mkdir()
    found = []
    for utterance in fitting_speech(recognizer.model)[:CLIPS]:
        shutil.copyfile(utterance.audio, into / utterance.audio.name)
        decoded, text = _said(recognizer, utterance.audio)
        found.append(Expected(utterance.audio.name, decoded.prompt, decoded.tokens, text))
    if not found:
        raise ValueError(
            f"{recognizer.model.checkpoint.name} hears {recognizer.model.bounds.most_seconds:g} s at most, which is "
            "shorter than any clip of the self-test"
        )
    write_text(into / LIST, json_text({"allowed": allowed, "clips": [asdict(each) for each in found]}))


def fitting_speech(model: SpeechModel) -> list[Utterance]:
    """The speech that comes with sottovoce, as far as the model can hear it."""
    return [u for u in read_corpus("builtin:test").utterances if model.bounds.hold(u.seconds)]


def _said(recognizer: Recognizer, file: Path) -> tuple[Decoded, str]:
    [decoded] = recognizer.decode([recognizer.model.features(recognizer.read(file))])
    return decoded, recognizer.model.text(decoded.tokens)


def run(exported: Exported, threads: int | None = None, track: Track = silent) -> tuple[SelfTest, list[Heard]]:
    """Hear the self-test of an export with its own engine, here and now. Raises ValueError if it has none."""
    place = exported.folder / FOLDER / LIST
    try:
        document = parse_json(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{place} cannot be read ({error}); export the model again") from None
    clips = [Expected(c["audio"], tuple(c["prompt"]), tuple(c["tokens"]), c["text"]) for c in document["clips"]]
    model = open_layout(Checkpoint(str(exported.folder), exported.folder, None))
    model.runtime_bounds = exported.bounds
    recognizer = Recognizer(model, exported.open(threads), model.rules())
    heard = list(_hear(recognizer, exported.folder / FOLDER, track(clips, len(clips), "self-test")))
    tested = SelfTest(
        sum(len(each.text.split()) for each in clips),
        sum(each.differing for each in heard),
        document["allowed"],
        len(clips),
        sum(each.tokens == each.expected.tokens for each in heard),
    )
    return tested, heard


def _hear(recognizer: Recognizer, folder: Path, clips: Iterator[Expected]) -> Iterator[Heard]:
    for clip in clips:
        decoded, text = _said(recognizer, folder / clip.audio)
        yield Heard(clip, decoded.tokens, text)
