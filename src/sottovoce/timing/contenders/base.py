"""What a peer of `bench` is: another program that runs the same model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sottovoce.recognition.target import Target


@dataclass(frozen=True)
class Made:
    """What a peer's process opens, and the bytes of its weights."""

    model: Path
    bytes: int


@dataclass(frozen=True)
class Peer:
    """A peer by what it needs and how its model is made.

    title        as its makers write it
    packages     that it needs, each with the version that it was tested with, as "1.2"
    families     the families that it runs, as config.json calls them
    runs         "module:Class", a Timed
    make         its model from an uncompressed checkpoint, in a folder to write in; the third is the user's file
    file         what the user has to give beside its name; empty if it makes all itself
    environment  of its process
    """

    title: str
    packages: Mapping[str, str]
    families: tuple[str, ...]
    runs: str
    make: "Callable[[Target, Path, Path | None], Made]"
    file: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
