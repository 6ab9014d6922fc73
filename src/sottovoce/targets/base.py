"""What a runtime is that a model can be exported to: what it can hold, and what writes its files."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.models.bounds import Bounds
from sottovoce.models.frontend import Frontend
from sottovoce.progress import Track
from sottovoce.targets.engine import EngineKind
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer


@dataclass(frozen=True)
class WriteOptions:
    """What an export may be asked beside the runtime.

    seconds   of audio that memory is planned for, where a model takes any length; a window is shortened before
    portable  products that may be left to slow kernels, by name
    """

    seconds: float | None = None
    portable: tuple[str, ...] = ()


class Runtime(ABC):
    """What writes a model's files for a runtime, beside the engine that runs them.

    engine    what runs them
    writes_with  the packages that writing needs beside the engine's own, each with the version that it was tested with
    grid      options of a grid that a recipe with this target has where it says nothing else
    options   the fields of WriteOptions that it takes
    frames    whether it runs models without a decoder, whose frames score the tokens (CTC)
    own_settings  whether it runs models that do what config.json says under sottovoce's own key
    whole_seconds  whether a window has to be of whole seconds
    rounds_activations  whether what a layer of integers reads is rounded in the runtime's own way
    any_widths  whether blocks may have heads and neurons that transformers' config cannot say (models/widths.py)
    tells     what of a model's inside a self-test can be held against its artifact's: "encoder", its last state,
              "cross", what the decoder's blocks make of that, "blocks", what each block puts out
    """

    engine: EngineKind
    writes_with: Mapping[str, str] = MappingProxyType({})
    grid: Mapping[str, str] = MappingProxyType({})
    options: frozenset[str] = frozenset()
    frames: bool = False
    own_settings: bool = False
    whole_seconds: bool = False
    rounds_activations: bool
    any_widths: bool = False
    tells: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """As its makers write it."""
        return self.engine.title

    @property
    def packages(self) -> Mapping[str, str]:
        """What writing needs: the engine's packages, which test what was written, and `writes_with`."""
        return {**self.engine.packages, **self.writes_with}

    @property
    def files(self) -> tuple[str, ...]:
        """Those that its engine opens."""
        return self.engine.files

    def check_search(self, frontend: Frontend) -> None:
        """Raise ValueError for a model that is decoded in a way that it cannot."""
        if frontend.rules().by_frames and not self.frames:
            raise ValueError(
                f"{self.title} takes models with a decoder, and {frontend.checkpoint.name} has none (CTC); "
                "onnx takes it"
            )
        if frontend.own and not self.own_settings:
            told = " and ".join(frontend.own_settings[key] for key in frontend.own)
            raise ValueError(
                f"{self.title} runs a Whisper's encoder over a whole window as transformers does, and "
                f"{frontend.checkpoint.name} {told}; onnx takes it"
            )

    @abstractmethod
    def refusals(self, entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> Mapping[str, str]:
        """The modules that it cannot hold as they are, each with the reason; told from the table alone."""

    def refused_widths(self, widths: Mapping[str, int]) -> Mapping[str, str]:
        """Of the `widths` that transformers' config cannot say those that it cannot hold, each with the reason."""
        if self.any_widths:
            return {}
        reason = (
            "transformers' config has one number of neurons for all blocks, and heads that fill the model's width; "
            "onnx and executorch take it"
        )
        return {name: f"a width of its own, {count} (prune_width): {reason}" for name, count in widths.items()}

    @abstractmethod
    def notes(self, entries: Sequence[Entry]) -> Sequence[str]:
        """What it holds, but not as small, as fast or as exactly as the artifact."""

    def rounding(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """How it rounds the vectors (..., in) that a layer multiplies; None where it multiplies floats."""
        return None

    def stored(self, layer: Layer) -> Iterable[Sequence[bytes]]:
        """The bytes that its files hold for a layer of integers: each part in one of the forms that it may have."""
        return ()

    def bounds(self, model: SpeechModel, options: WriteOptions) -> Bounds:
        """The clips that an export takes: the model's own bounds."""
        return model.frontend.bounds

    @abstractmethod
    def write(
        self, model: SpeechModel, layers: Mapping[str, Layer], folder: Path, options: WriteOptions, track: Track
    ) -> None:
        """Write `files` of a model that holds `layers`; the model is used up.

        config.json and the other companions of the checkpoint lie in `folder`: a runtime may add to them.
        """
