"""ExecuTorch as one of RUNTIMES."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.models.bounds import Bounds
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.rounding import Rounding
from sottovoce.progress import Track
from sottovoce.targets.base import Runtime, WriteOptions
from sottovoce.targets.executorch.accepts import notes, refusals
from sottovoce.targets.executorch.layers import parts_of
from sottovoce.targets.executorch.run import ENGINE
from sottovoce.targets.executorch.write import least_samples, write
from sottovoce.tested import tested
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer

SECONDS = 30.0  # of memory for a model that takes any length


class ExecuTorch(Runtime):
    """model.pte with the methods encoder and text_decoder; products of 4- and 8-bit integers by XNNPACK."""

    engine = ENGINE
    writes_with = tested("torchao")
    grid: Mapping[str, str] = {"scale_dtype": "bfloat16"}
    options = frozenset({"seconds", "portable"})
    any_widths = True
    rounds_activations = True
    tells = frozenset({"cross"})

    def refusals(self, entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> Mapping[str, str]:
        """See accepts.py; a turned stream is two small products more."""
        return refusals(entries)

    def notes(self, entries: Sequence[Entry]) -> Sequence[str]:
        """See accepts.py."""
        return notes(entries)

    def rounding(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """Each vector by itself, between its least and its greatest; convolutions multiply floats."""
        coded = isinstance(layer.weight.base, Quantized) and layer.kind != "conv"
        return Rounding(8, "token", symmetric=False) if coded else None

    def stored(self, layer: Layer) -> Iterator[Sequence[bytes]]:
        """See layers.py."""
        return parts_of(layer)

    def bounds(self, model: SpeechModel, options: WriteOptions) -> Bounds:
        """The window, or as long as memory is planned for."""
        return Bounds(least_samples(model), model.most_seconds or options.seconds or SECONDS)

    def write(
        self, model: SpeechModel, layers: Mapping[str, Layer], folder: Path, options: WriteOptions, track: Track
    ) -> None:
        """See write.py."""
        write(model, layers, folder, self.bounds(model, options), options.portable, track)
