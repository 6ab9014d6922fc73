"""CTranslate2 as one of RUNTIMES."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.rounding import Rounding
from sottovoce.progress import Track
from sottovoce.targets.base import Runtime, WriteOptions
from sottovoce.targets.ctranslate2.accepts import notes, refusals
from sottovoce.targets.ctranslate2.places import POSITIONS
from sottovoce.targets.ctranslate2.run import ENGINE
from sottovoce.targets.ctranslate2.write import integers, write
from sottovoce.targets.levels import bytes_of
from sottovoce.tested import tested
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer


class CTranslate2(Runtime):
    """model.bin and vocabulary.json; int8 with one scale a row, or floats."""

    engine = ENGINE
    writes_with = tested("transformers")
    rounds_activations = True
    tells = frozenset({"encoder"})

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

    def rounding(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """Each vector by itself, around zero; so nearly what a convolution multiplies, a few vectors at once."""
        return Rounding(8, "token") if isinstance(layer.weight.base, Quantized) else None

    def stored(self, layer: Layer) -> Iterator[Sequence[bytes]]:
        """Integers and the reciprocals of their scales; tables of positions are floats there."""
        if isinstance(layer.weight.base, Quantized) and layer.name not in POSITIONS:
            yield from (bytes_of(part) for part in integers(layer))
