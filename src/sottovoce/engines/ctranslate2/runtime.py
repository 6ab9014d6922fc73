"""CTranslate2 as one of RUNTIMES."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sottovoce.engines.base import Runtime, WholeEngine, WriteOptions
from sottovoce.engines.ctranslate2.accepts import notes, refusals
from sottovoce.engines.ctranslate2.run import CTranslate2Engine
from sottovoce.engines.ctranslate2.write import MODEL, VOCABULARY, write
from sottovoce.models.base import SpeechModel
from sottovoce.path_table import TurnEntry
from sottovoce.progress import Track
from sottovoce.table import Entry
from sottovoce.tested import tested
from sottovoce.weight import Layer


class CTranslate2(Runtime):
    """model.bin and vocabulary.json; int8 with one scale a row, or floats."""

    title = "CTranslate2"
    packages = tested("ctranslate2", "transformers")
    runs_on = ("ctranslate2",)
    files = (MODEL, VOCABULARY)
    greedy_only = True
    rounds_activations = True

    def refusals(self, entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> Mapping[str, str]:
        """See accepts.py."""
        return refusals(entries, turns)

    def notes(self, entries: Sequence[Entry]) -> Sequence[str]:
        """See accepts.py."""
        return notes(entries)

    def write(
        self, model: SpeechModel, layers: Mapping[str, Layer], folder: Path, options: WriteOptions, track: Track
    ) -> None:
        """See write.py."""
        write(model, layers, folder, track)

    def open(self, folder: Path, threads: int | None) -> WholeEngine:
        """See run.py."""
        return CTranslate2Engine(folder, threads)
