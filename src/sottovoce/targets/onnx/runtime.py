"""ONNX Runtime as one of RUNTIMES."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.progress import Track
from sottovoce.targets.base import Runtime, WriteOptions
from sottovoce.targets.onnx.accepts import notes, refusals
from sottovoce.targets.onnx.layers import parts_of, rule_of
from sottovoce.targets.onnx.run import ENGINE
from sottovoce.targets.onnx.write import write
from sottovoce.tested import tested
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer


class OnnxRuntime(Runtime):
    """encoder.onnx and decoder.onnx; integers by MatMulNBits and DynamicQuantizeMatMul."""

    engine = ENGINE
    writes_with = tested("onnx", "onnxscript")
    frames = True
    any_widths = True
    own_settings = True
    rounds_activations = True
    tells = frozenset({"cross", "blocks"})

    def refusals(self, entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> Mapping[str, str]:
        """See accepts.py; a turned stream is two small products more."""
        return refusals(entries)

    def notes(self, entries: Sequence[Entry]) -> Sequence[str]:
        """See accepts.py."""
        return notes(entries)

    def write(
        self, model: SpeechModel, layers: Mapping[str, Layer], folder: Path, options: WriteOptions, track: Track
    ) -> None:
        """See write.py."""
        write(model, layers, folder, track)

    def rounding(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """See layers.py."""
        return rule_of(layer)

    def stored(self, layer: Layer) -> Iterator[Sequence[bytes]]:
        """See layers.py."""
        return parts_of(layer)
