"""Whether an output can be written, found out by writing: before the work, and with nothing left behind."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

_PROBE = bytes(4096)  # more than a full disk takes


def check_folder(output: Path) -> None:
    """Raise ValueError unless a folder stands or can be made at `output`, and files can be written in it."""
    _check_way(output)
    _try(output, output.absolute(), ".probe-")


def check_beside(output: Path) -> None:
    """Raise ValueError unless a folder can be written beside `output` and take its place."""
    _check_way(output)
    place = Path(os.path.realpath(output))
    if os.path.ismount(place):
        raise ValueError(
            f"output {output} is a mount point, which no new folder can replace; name a folder within it, as "
            f"{output / 'model'}"
        )
    _try(output, place.parent, f".{place.name}.unfinished-")


def _check_way(output: Path) -> None:
    try:
        str(output).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"output {str(output)!a} is not UTF-8, and safetensors writes no such file; name another folder"
        ) from None
    if os.path.isfile(output):
        raise ValueError(f"output {output} is a file; name a folder")
    if blocker := next((parent for parent in output.absolute().parents if os.path.isfile(parent)), None):
        raise ValueError(f"output {output}: {blocker} is a file, so nothing can stand below it; name another folder")


def _try(output: Path, folder: Path, prefix: str) -> None:
    """Make what is missing of `folder`, a folder with that prefix in it and a file in that; then take all away."""
    made: list[Path] = []
    try:
        for each in (*reversed(folder.parents), folder):
            if not os.path.isdir(each):
                each.mkdir()
                made.append(each)
        made.append(Path(tempfile.mkdtemp(prefix=prefix, dir=folder)))
        with tempfile.TemporaryFile(dir=made[-1]) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ValueError(f"output {output} cannot be written: {error.strerror}; name another folder") from None
    finally:
        for each in reversed(made):
            with suppress(OSError):
                each.rmdir()
