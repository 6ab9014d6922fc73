"""A folder that takes the place of an older one: what goes, what stays, and what a kill leaves."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from sottovoce.files import replacing
from sottovoce.files.replacing import new_folder, remove_files


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


OLD = {"model": "old", "own/clip": "old"}
THEIRS = {"notes.txt": "mine", "own/notes": "mine", "deep/er/x": "mine", ".git/config": "mine"}
NEW = {"model": "new", "own/clip": "new", "added": "new"}


@pytest.fixture
def older(tmp_path):
    """A folder with files of its own and of a user."""
    folder = tmp_path / "home" / "out"
    write(folder, OLD | THEIRS)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("notes.txt")
    (folder / "folder link").symlink_to("deep")
    return folder


@pytest.fixture(params=["exchange", "two renames", "copies"])
def system(request, monkeypatch):
    """A kernel that exchanges folders, one that does not, and a file system without hard links."""
    if request.param == "two renames":
        monkeypatch.setattr(replacing, "_exchange", lambda one, other: False)
    if request.param == "copies":
        monkeypatch.setattr(os, "link", fails)
    return request.param


def replaced(older, files, error=None, own=OLD):
    """Write a folder with those files in place of the older one, or fail after it."""
    with new_folder(older, lambda folder: own) as folder:
        write(folder, files)
        if error is not None:
            raise error


def fails(*words, **named):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_what_is_the_older_folders_own_goes_and_all_else_stays(older, system):
    inodes = {name: (older / name).stat().st_ino for name in THEIRS}
    replaced(older, NEW)
    assert content(older) == NEW | THEIRS | {"link": "mine"}
    assert (older / "empty").is_dir()
    assert (older / "link").readlink().name == "notes.txt"
    assert (older / "folder link" / "er" / "x").read_text() == "mine"
    assert [path.name for path in older.parent.iterdir()] == ["out"]
    if system != "copies":
        assert {name: (older / name).stat().st_ino for name in THEIRS} == inodes


def test_what_is_not_the_older_folders_own_and_has_a_new_files_name_is_kept_beside(older, system):
    with pytest.warns(UserWarning, match="lies in"):
        replaced(older, NEW | {"deep": "a file where they have a folder", "notes.txt/x": "new"}, own=["model"])
    [kept] = older.parent.glob("out.kept-*")
    assert content(kept) == {"own/clip": "old", "notes.txt": "mine", "deep/er/x": "mine"}
    assert content(older)["own/clip"] == "new"
    assert content(older)["own/notes"] == "mine"


def test_what_comes_while_the_new_one_is_written_stays_too(older, system):
    with new_folder(older, lambda folder: OLD) as folder:
        write(folder, NEW)
        write(older, {"late.txt": "mine"})
    assert content(older)["late.txt"] == "mine"


def test_a_link_to_a_folder_stays_a_link(older, tmp_path):
    (tmp_path / "link").symlink_to(older)
    with new_folder(tmp_path / "link", lambda folder: OLD) as folder:
        write(folder, NEW)
    assert (tmp_path / "link").is_symlink()
    assert content(older)["model"] == "new"


def test_a_folder_that_cannot_take_its_place_is_kept_beside_and_the_older_one_stays(older, monkeypatch):
    before = content(older)
    monkeypatch.setattr(replacing, "_exchange", lambda one, other: False)
    moves, replace = [], os.replace

    def second_fails(source, target):
        moves.append(target)
        if len(moves) == 2:
            fails()
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(OSError, match=r"cannot be replaced .* whole and lies in .*out\.kept-"):
        replaced(older, NEW)
    [kept] = older.parent.glob("out.kept-*")
    assert content(older) == before
    assert content(kept) == NEW | THEIRS | {"link": "mine"}


@pytest.mark.parametrize("moment", ["os.link", "os.replace", "os.unlink", "os.rmdir", "renameat2"])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_kill_at_any_moment_leaves_the_older_or_the_newer_and_every_file_of_the_users(moment, after, older):
    """Another process is killed at its `after`th call of that kind."""
    script = f"""
        import os, signal, sys
        from pathlib import Path
        from sottovoce.files import replacing
        calls = 0
        def counted(function):
            def call(*words, **named):
                global calls
                calls += 1
                if calls == {after}:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*words, **named)
            return call
        if {moment!r} == "renameat2":
            replacing._exchange = counted(replacing._exchange)
        else:
            name = {moment!r}.removeprefix("os.")
            setattr(os, name, counted(getattr(os, name)))
        with replacing.new_folder(Path({str(older)!r}), lambda folder: {list(OLD)!r}) as folder:
            for name, text in {NEW!r}.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(text)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=60)
    found = content(older)
    if ended.returncode == -signal.SIGKILL:
        assert found in ({**OLD, **THEIRS, "link": "mine"}, {**NEW, **THEIRS, "link": "mine"})
    else:
        assert (ended.returncode, found) == (0, {**NEW, **THEIRS, "link": "mine"})


def test_an_error_leaves_the_older_folder_and_nothing_beside(older):
    before = content(older)
    with pytest.raises(KeyboardInterrupt):
        replaced(older, NEW, KeyboardInterrupt)
    assert content(older) == before
    assert [path.name for path in older.parent.iterdir()] == ["out"]


def test_removing_files_leaves_the_others(older):
    remove_files(older, OLD)
    assert content(older) == THEIRS | {"link": "mine"}
    remove_files(older, [*THEIRS, "link", "folder link"])
    assert not older.exists()
