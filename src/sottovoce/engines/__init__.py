"""What runs a model: one file or folder a runtime, and the one table of those that a model can be exported to.

The torch engine is the reference. To add a runtime: write a class that is a Runtime, and its
line in RUNTIMES.
"""

from importlib import import_module

from sottovoce.engines.base import Runtime
from sottovoce.nearest import unknown

RUNTIMES = {
    "safetensors": "sottovoce.engines.dense:DenseSafetensors",
    "executorch": "sottovoce.engines.executorch.runtime:ExecuTorch",
    "compressed-tensors": "sottovoce.engines.compressed_tensors.runtime:CompressedTensors",
    "ctranslate2": "sottovoce.engines.ctranslate2.runtime:CTranslate2",
    "ggml": "sottovoce.engines.ggml.runtime:Ggml",
    "onnx": "sottovoce.engines.onnx.runtime:OnnxRuntime",
}


def find_runtime(name: str) -> Runtime:
    """The runtime of that name. Raises ValueError that lists those there are."""
    if name not in RUNTIMES:
        raise unknown("runtime", name, list(RUNTIMES))
    module, own = RUNTIMES[name].split(":")
    found: Runtime = getattr(import_module(module), own)()
    return found
