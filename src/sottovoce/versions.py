"""The versions that results are kept with."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import sottovoce


def versions(*packages: str) -> dict[str, str]:
    """The version of each package; sottovoce's is its own word, so that a source tree on the path needs no metadata."""
    return {name: sottovoce.__version__ if name == "sottovoce" else _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # frozen into one file, or found on the path
        return str(import_module(package).__version__)
