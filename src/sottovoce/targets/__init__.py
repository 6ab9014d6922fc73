"""What runs a model: one file or folder a runtime, and the one table of those that a model can be exported to.

The torch engine is the reference. To add a runtime: write a class that is a Runtime, and its
line in RUNTIMES.
"""

from importlib import import_module

from sottovoce.nearest import unknown
from sottovoce.targets.base import Runtime

RUNTIMES = {
    "safetensors": "sottovoce.targets.dense:DenseSafetensors",
    "executorch": "sottovoce.targets.executorch.runtime:ExecuTorch",
    "compressed-tensors": "sottovoce.targets.compressed_tensors.runtime:CompressedTensors",
    "ctranslate2": "sottovoce.targets.ctranslate2.runtime:CTranslate2",
    "ggml": "sottovoce.targets.ggml.runtime:Ggml",
    "onnx": "sottovoce.targets.onnx.runtime:OnnxRuntime",
}


def find_runtime(name: str) -> Runtime:
    """The runtime of that name. Raises ValueError that lists those there are."""
    if name not in RUNTIMES:
        raise unknown("runtime", name, list(RUNTIMES))
    module, own = RUNTIMES[name].split(":")
    found: Runtime = getattr(import_module(module), own)()
    return found
