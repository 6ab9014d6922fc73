"""A folder that takes the place of an older one: what is the older one's own goes, all else stays where it was.

The new folder is written beside and gets hard links to what is not the older one's own; then the two change places,
in one step where the kernel can (Linux, on most file systems), and the older one's files are removed. Killed at any
moment, the older or the newer folder is there whole, and the user's files with it.
"""

import ctypes
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Own = Callable[[Path], Collection[str]]


@contextmanager
def new_folder(path: Path, own: Own) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place at the end; on an error it goes and `path` stays.

    own  the files of the older folder that may go, as paths below it. Everything else is found at `path` again; only
         what has the name of a new file is kept beside, with a warning that says where.

    Raises OSError if the finished folder cannot take the place; it is kept beside then, and the error says where.
    """
    path = Path(os.path.realpath(path))  # a link to a folder stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{path.name}.new-", dir=path.parent))
    try:
        new.chmod(0o755)
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    try:
        _take_place(new, path, own)
    except OSError as error:
        kept = _kept(new, path)
        raise OSError(f"{path} cannot be replaced ({error}); what was made is whole and lies in {kept}") from error


def _take_place(new: Path, path: Path, own: Own) -> None:
    if not path.is_dir():
        os.replace(new, path)
        return
    going = frozenset(own(path))
    carried = _carry(path, new, going)
    old = _change_places(new, path)
    remove_files(old, [*going, *(name for name in carried if _same(old / name, path / name))])
    if old.exists():
        warnings.warn(
            f"{path} was replaced, and what had come there under the name of a new file lies in {_kept(old, path)} now",
            stacklevel=2,
        )


def remove_files(folder: Path, names: Collection[str]) -> None:
    """Remove those files of a folder and, where nothing else is left, the folder."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it holds something
            os.rmdir(place)


def _carry(old: Path, new: Path, going: Collection[str]) -> list[str]:
    """Link all but `going` into the new folder; the names that it now has of the old one."""
    carried = []
    for place, folders, files in os.walk(old):
        within = Path(place).relative_to(old)
        if os.path.lexists(new / within) and not (new / within).is_dir():
            folders.clear()
            continue
        if not _only_own(within, going):
            (new / within).mkdir(exist_ok=True)
            shutil.copymode(place, new / within)
        links = [name for name in folders if (Path(place) / name).is_symlink()]  # walk does not follow them
        for name in (*files, *links):
            relative = (within / name).as_posix()
            if relative not in going and not os.path.lexists(new / relative):
                (new / relative).parent.mkdir(parents=True, exist_ok=True)
                _link(old / relative, new / relative)
                carried.append(relative)
    return carried


def _only_own(folder: Path, going: Collection[str]) -> bool:
    return folder == Path() or any(name.startswith(f"{folder.as_posix()}/") for name in going)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):  # FAT and some network file systems have no hard links
        shutil.copy2(source, target, follow_symlinks=False)


def _change_places(new: Path, path: Path) -> Path:
    """Let `new` stand at `path`; where the older folder stands then."""
    if _exchange(new, path):
        return new
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old-", dir=path.parent))
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(old, path)
        raise
    return old


def _exchange(one: Path, other: Path) -> bool:
    """Whether the kernel let two folders change places in one step."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _kept(folder: Path, path: Path) -> Path:
    """Give a temporary folder a name that is seen and tells what it belongs to."""
    kept = Path(tempfile.mkdtemp(prefix=f"{path.name}.kept-", dir=path.parent))
    os.replace(folder, kept)
    return kept


def _same(one: Path, other: Path) -> bool:
    """Whether two names are one file, or a file and its copy."""
    try:
        a, b = one.lstat(), other.lstat()
    except OSError:
        return False
    return os.path.samestat(a, b) or (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)
