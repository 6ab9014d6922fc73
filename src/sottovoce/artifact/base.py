"""How the folder of an artifact is told from others, and the model that an artifact or an export comes from."""

from dataclasses import dataclass
from pathlib import Path

MANIFEST = "sottovoce.json"


@dataclass(frozen=True)
class Base:
    """The uncompressed model that an artifact comes from."""

    model: str
    revision: str | None
    digest: str
    bytes: int


def is_artifact(folder: str | Path) -> bool:
    """Whether a folder holds an artifact, whole or not."""
    return (Path(folder) / MANIFEST).is_file()
