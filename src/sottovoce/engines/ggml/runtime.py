"""ggml as one of RUNTIMES, run by whisper.cpp."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sottovoce.engines.base import Engine, Runtime, WriteOptions
from sottovoce.engines.ggml.accepts import notes, refusals
from sottovoce.engines.ggml.run import GgmlEngine
from sottovoce.engines.ggml.write import MODEL, write
from sottovoce.models.base import SpeechModel
from sottovoce.path_table import TurnEntry
from sottovoce.progress import Track
from sottovoce.table import Entry
from sottovoce.tested import tested
from sottovoce.weight import Layer


class Ggml(Runtime):
    """ggml-model.bin; q4_0, q5_0 or q8_0, or floats."""

    title = "whisper.cpp"
    packages = tested("pywhispercpp")
    runs_on = ("pywhispercpp",)
    files = (MODEL,)
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

    def open(self, folder: Path, threads: int | None) -> Engine:
        """See run.py."""
        return GgmlEngine(folder, threads)
