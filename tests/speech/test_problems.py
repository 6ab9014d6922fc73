import pytest

from sottovoce.speech.problems import SHOWN, listed


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("count", [1, SHOWN])
def test_few_problems_are_told_a_line_each(tmp_path, count):
    problems = [f"clip {i} is bad" for i in range(count)]
    assert listed(problems).splitlines() == problems
    assert not list(tmp_path.iterdir())


def test_of_many_the_first_are_told_and_a_file_lists_all(tmp_path):
    problems = [f"clip {i} is bäd" for i in range(SHOWN + 5)]
    lines = listed(problems).splitlines()
    [file] = tmp_path.glob("*.txt")
    assert lines[:-1] == problems[:SHOWN]
    assert lines[-1] == f"... and 5 more; {file} lists all {len(problems)}"
    assert file.read_text(encoding="utf-8").splitlines() == problems
    assert listed(problems).splitlines() == lines  # the same file once more
    assert list(tmp_path.iterdir()) == [file]


def test_where_no_file_can_be_written_the_first_are_told_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file" / "nowhere"))
    assert listed(["bad"] * (SHOWN + 1)).splitlines()[-1] == "... and 1 more"
