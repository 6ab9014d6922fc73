"""ggml as one of RUNTIMES, run by whisper.cpp."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.numbers.grid import Quantized
from sottovoce.progress import Track
from sottovoce.targets.base import Runtime, WriteOptions
from sottovoce.targets.ggml.accepts import notes, refusals
from sottovoce.targets.ggml.blocks import BLOCK, BLOCK_TYPES, blocks
from sottovoce.targets.ggml.names import POSITIONS
from sottovoce.targets.ggml.run import ENGINE
from sottovoce.targets.ggml.write import write
from sottovoce.targets.rounded import InBlocks
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer


class Ggml(Runtime):
    """ggml-model.bin; q4_0, q5_0 or q8_0, or floats."""

    engine = ENGINE
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

    def rounding(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """In blocks as the weight is; convolutions multiply floats."""
        coded = isinstance(layer.weight.base, Quantized) and layer.kind != "conv"
        return InBlocks(BLOCK) if coded else None

    def stored(self, layer: Layer) -> Iterator[Sequence[bytes]]:
        """Integers and scales together, in the one type of block that the file has."""
        base = layer.weight.base
        if isinstance(base, Quantized) and layer.kind != "conv" and layer.name not in POSITIONS:
            kinds = [kind for kind in BLOCK_TYPES if kind.holds(base.bits, base.zero_point is None)]
            yield [blocks(base, layer.weight.mask, kind) for kind in kinds]
