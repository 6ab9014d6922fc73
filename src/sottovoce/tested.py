"""The tested matrix: the releases that the tests passed with together. pyproject.toml asks for the same ones.

transformers 5.23 and 5.24 load a compressed-tensors checkpoint by the scheme of its first group alone, so a mixture of
bits fails there; torch is the newest release with a build for CPUs alone in common package indexes.
"""

from collections.abc import Mapping
from types import MappingProxyType

TESTED: Mapping[str, str] = MappingProxyType(
    {
        "torch": "2.13",
        "transformers": "5.22",
        "huggingface-hub": "2.4",
        "executorch": "1.5",
        "torchao": "0.18",
        "onnxruntime": "1.32",
        "onnx": "1.23",
        "onnxscript": "0.7",
        "compressed-tensors": "0.20",
        "ctranslate2": "4.8",
        "pywhispercpp": "1.5",
        "faster-whisper": "1.2",
        "av": "18",
        "fastapi": "0.165",
        "uvicorn": "0.54",
        "python-multipart": "0.0.34",
        "websockets": "17",
        "openai": "3.57",
    }
)


def tested(*packages: str) -> Mapping[str, str]:
    """The tested release of each package, by its name."""
    return {package: TESTED[package] for package in packages}
