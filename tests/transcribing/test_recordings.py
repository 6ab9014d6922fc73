import os
from pathlib import PurePosixPath

import pytest

from sottovoce.transcribing.recordings import Recording, checked_inputs, find_recordings, named


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def stems(*inputs):
    return {recording.name: recording.stem for recording in named(find_recordings(checked_inputs(inputs)))}


def test_folders_are_walked_for_audio_and_keep_their_structure(tmp_path):
    folder = made(tmp_path, "b.WAV", "a/c.mp3", "a/notes.txt", ".trash/d.wav", "._b.wav")
    assert stems(folder) == {"a/c.mp3": "a/c", "b.WAV": "b"}


def test_files_of_any_suffix_may_be_named_and_each_is_there_once(tmp_path):
    folder = made(tmp_path, "b.wav", "recorder")
    os.symlink(folder / "b.wav", tmp_path / "link.wav")
    assert stems(folder / "recorder", folder / "b.wav", folder / "b.wav") == {"b.wav": "b", "recorder": "recorder"}
    assert len(find_recordings([folder])) == 1


def test_two_that_would_write_the_same_get_their_suffix(tmp_path):
    folder = made(tmp_path, "a.wav", "a.mp3", "b.wav", "c/a.wav")
    assert stems(folder) == {"a.mp3": "a.mp3", "a.wav": "a.wav", "b.wav": "b", "c/a.wav": "c/a"}


def test_two_of_one_name_are_refused(tmp_path):
    one, other = made(tmp_path / "x", "a.wav"), made(tmp_path / "y", "a.wav")
    with pytest.raises(ValueError, match=r"y/a.wav and .*x/a.wav would write the same files, a.wav"):
        named(find_recordings([one, other]))
    with pytest.raises(ValueError, match="would write the same files"):
        named(find_recordings([other]), [Recording(one / "a.wav", "a.wav", "a")])


def test_a_recording_that_comes_later_leaves_the_names_that_there_are(tmp_path):
    earlier = Recording(tmp_path / "a.wav", "a.wav", "a")
    [later] = named([(tmp_path / "a.mp3", PurePosixPath("a.mp3"))], [earlier])
    assert later.stem == "a.mp3"


def test_a_folder_without_audio_is_refused_and_so_is_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"holds no audio; files that end in \.wav"):
        find_recordings([made(tmp_path, "a.txt")])
    assert find_recordings([tmp_path], may_be_empty=True) == []
    with pytest.raises(ValueError, match=r"there is no file or folder .*gone.*\nthere is no file or folder .*lost"):
        checked_inputs([tmp_path / "gone", tmp_path / "lost"])
    with pytest.raises(ValueError, match="is a file; watch a folder"):
        checked_inputs([tmp_path / "a.txt"], only_folders=True)
    with pytest.raises(ValueError, match="no recording was named"):
        checked_inputs([])


def test_the_built_in_speech_is_a_folder():
    assert len(find_recordings(checked_inputs(["builtin:test"]))) > 3
