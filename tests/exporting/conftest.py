import pytest

import sottovoce
from sottovoce.targets.exported import read_exported


@pytest.fixture(scope="session")
def artifact(once):
    """The folder of the built-in Whisper at 8 bits, which needs no audio."""
    return once("eight", lambda folder: sottovoce.compress("builtin:whisper", recipe="rtn-w8", output=folder))


@pytest.fixture(scope="session")
def exported(artifact, once):
    """That artifact as ONNX; no test may change it."""
    return read_exported(once("phone", lambda folder: sottovoce.export(artifact, to="onnx", output=folder, threads=1)))
