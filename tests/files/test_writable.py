import errno
import os
import tempfile

import pytest

from sottovoce.files.writable import check_beside, check_folder


@pytest.fixture
def home(tmp_path):
    """A folder that the checks should leave as it is."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "file").write_text("mine")
    yield home
    assert [path.name for path in home.iterdir()] == ["file"]


def failing(number):
    def fails(*words, **named):
        raise OSError(number, os.strerror(number))

    return fails


@pytest.mark.parametrize("check", [check_folder, check_beside])
@pytest.mark.parametrize("output", ["new", "new/and/below", "ü 疲れ/[x]"])
def test_an_output_that_can_be_made_is_not_made_yet(check, output, home):
    check(home / output)


@pytest.mark.parametrize("check", [check_folder, check_beside])
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file", "is a file; name a folder"),
        ("file/below", "file is a file, so nothing can stand below it"),
        (os.fsdecode(b"caf\xe9"), r"caf\\udce9' is not UTF-8, and safetensors writes no such file"),
        ("file/below/that", "file is a file, so nothing can stand below it"),
        ("n" * 256, "cannot be written: File name too long; name another folder"),
        (f"new/{'n' * 256}/below", "cannot be written: File name too long"),
        ("/".join(["n" * 250] * 20), "cannot be written: File name too long"),
    ],
)
def test_an_output_that_cannot_be_made_is_refused_in_one_sentence(check, output, message, home):
    with pytest.raises(ValueError, match=message) as told:
        check(home / output)
    assert "\n" not in str(told.value)


def test_a_name_that_leaves_no_room_for_the_folder_beside_is_refused(home):
    check_folder(home / ("n" * 250))
    with pytest.raises(ValueError, match="File name too long"):
        check_beside(home / ("n" * 250))


@pytest.mark.parametrize("check", [check_folder, check_beside])
@pytest.mark.parametrize("output", ["new", "new/below"])
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_place_where_nobody_may_write_is_refused(number, output, check, home, monkeypatch):
    monkeypatch.setattr(os, "mkdir", failing(number))
    with pytest.raises(ValueError, match=f"cannot be written: {os.strerror(number)}; name another folder"):
        check(home / output)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("check", [check_folder, check_beside])
def test_a_folder_without_the_right_to_write_is_refused(check, home):
    home.chmod(0o555)
    try:
        with pytest.raises(ValueError, match="cannot be written: Permission denied"):
            check(home / "new")
    finally:
        home.chmod(0o755)


@pytest.mark.parametrize("check", [check_folder, check_beside])
def test_a_full_disk_is_refused(check, home, monkeypatch):
    class Full:
        write = failing(errno.ENOSPC)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(ValueError, match="cannot be written: No space left on device"):
        check(home / "new")


def test_a_mount_point_cannot_be_replaced_and_results_may_go_into_it(home, monkeypatch, tmp_path):
    place = tmp_path / "volume"
    place.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == place)
    check_folder(place)
    check_beside(place / "model")
    with pytest.raises(ValueError, match="is a mount point, which no new folder can replace; name a folder within it"):
        check_beside(place)
    assert list(place.iterdir()) == []


def test_a_link_to_nowhere_is_refused_or_followed(home, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(home / "later")
    check_beside(link)
    assert link.is_symlink()
