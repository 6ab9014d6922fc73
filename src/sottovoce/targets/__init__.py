"""What runs a model: one file or folder a runtime, and the tables of those that run an export and that write one.

The torch engine is the reference. To add a runtime: write an EngineKind and its line in ENGINES, which loads without
torch if the runtime does; and a class that is a Runtime, and its line in RUNTIMES.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sottovoce.nearest import unknown
from sottovoce.targets.engine import EngineKind

if TYPE_CHECKING:
    from sottovoce.targets.base import Runtime

ENGINES = {
    "safetensors": "sottovoce.targets.dense:ENGINE",
    "executorch": "sottovoce.targets.executorch.run:ENGINE",
    "compressed-tensors": "sottovoce.targets.compressed_tensors.runtime:ENGINE",
    "ctranslate2": "sottovoce.targets.ctranslate2.run:ENGINE",
    "ggml": "sottovoce.targets.ggml.run:ENGINE",
    "onnx": "sottovoce.targets.onnx.run:ENGINE",
}
RUNTIMES = {
    "safetensors": "sottovoce.targets.dense:DenseSafetensors",
    "executorch": "sottovoce.targets.executorch.runtime:ExecuTorch",
    "compressed-tensors": "sottovoce.targets.compressed_tensors.runtime:CompressedTensors",
    "ctranslate2": "sottovoce.targets.ctranslate2.runtime:CTranslate2",
    "ggml": "sottovoce.targets.ggml.runtime:Ggml",
    "onnx": "sottovoce.targets.onnx.runtime:OnnxRuntime",
}


def find_engine(name: str) -> EngineKind:
    """What runs the exports of the runtime of that name. Raises ValueError that lists those there are."""
    if name not in ENGINES:
        raise unknown("runtime", name, list(ENGINES))
    module, own = ENGINES[name].split(":")
    found: EngineKind = getattr(import_module(module), own)
    return found


def find_runtime(name: str) -> "Runtime":
    """What writes for the runtime of that name. Raises ValueError that lists those there are."""
    if name not in RUNTIMES:
        raise unknown("runtime", name, list(RUNTIMES))
    module, own = RUNTIMES[name].split(":")
    found: Runtime = getattr(import_module(module), own)()
    return found
