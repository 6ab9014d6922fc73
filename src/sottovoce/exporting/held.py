"""Whether the files of an export hold the very integers, scales and zeros of each layer: their bytes are looked for."""

import mmap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from sottovoce.progress import Track
from sottovoce.targets.base import Runtime
from sottovoce.weights.weight import Layer


def not_held(runtime: Runtime, layers: Mapping[str, Layer], folder: Path, track: Track) -> tuple[str, ...]:
    """The layers of which a part lies in none of a runtime's files as the artifact has it."""
    with ExitStack() as opened:
        contents = []
        for path in runtime.engine.opened(folder):
            file = opened.enter_context(path.open("rb"))
            contents.append(opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
        files = _Files(contents)
        each = track(layers.values(), len(layers), "layers read back")
        return tuple(layer.name for layer in each if not all(map(files.hold, runtime.stored(layer))))


class _Files:
    """Files in which parts are looked for from where the last one was found: layers lie in nearly the same order."""

    def __init__(self, contents: Sequence[mmap.mmap]) -> None:
        self._ends = [(content, 0) for content in contents]  # the file of the last part first

    def hold(self, forms: Sequence[bytes]) -> bool:
        """Whether any form of a part lies in any file."""
        for content, last in self._ends:
            for form in forms:
                place = content.find(form, last)
                if place < 0:
                    place = content.find(form, 0, last + len(form))
                if place >= 0:
                    others = [each for each in self._ends if each[0] is not content]
                    self._ends = [(content, place), *others]
                    return True
        return False
