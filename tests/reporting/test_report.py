import json

import pytest

from sottovoce.reporting.report import report
from tests.reporting.sample import sweep

FILES = ["table.md", "table.csv", "table.tex", "table.json", "report.html"]


@pytest.fixture
def folder(tmp_path):
    rows = sweep()
    for row in rows:
        row.write(tmp_path / "sweep")
    (tmp_path / "sweep" / "order.json").write_text(json.dumps([row.key for row in rows]))
    return tmp_path / "sweep"


def test_report_writes_five_files_and_returns_what_they_say(folder, tmp_path):
    found = report(folder, output=tmp_path / "new" / "out")
    assert [path.name for path in found.files] == FILES
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(FILES)
    assert [row.key for row in found.rows] == ["none", "int8", "gptq4", "gptq4-24", "rtn4", "broken"]
    assert len(found.table.lines) == 6
    written = json.loads((tmp_path / "new" / "out" / "table.json").read_text())["rows"]
    assert [row["key"] for row in written] == [row.key for row in found.rows]


def test_report_replaces_its_files_and_leaves_others(folder, tmp_path):
    report(folder, output=tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    before = (tmp_path / "out" / "table.md").read_text()
    (folder / "order.json").write_text(json.dumps(["none", "int8"]))
    report(folder, output=str(tmp_path / "out"))
    assert len((tmp_path / "out" / "table.md").read_text()) < len(before)
    assert len(json.loads((tmp_path / "out" / "table.json").read_text())["rows"]) == 2
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("first", [False, True], ids=["of the user", "edited by the user"])
def test_a_report_does_not_overwrite_a_file_that_no_report_wrote_as_it_is(name, first, folder, tmp_path):
    if first:
        report(folder, output=tmp_path / "out")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    told = "which is not as a report wrote it and would be lost"
    with pytest.raises(ValueError, match=f"holds .*{told}"):
        report(folder, output=tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_report_that_was_killed_before_its_last_file_is_written_again(folder, tmp_path):
    report(folder, output=tmp_path / "out")
    (tmp_path / "out" / "table.json").unlink()
    report(folder, output=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)


def test_a_report_does_not_go_into_a_checkpoints_folder(folder, toy):
    with pytest.raises(ValueError, match="is a checkpoint's folder, and results need one of their own"):
        report(folder, output=toy("whisper"))


def test_report_of_the_same_rows_is_the_same(folder, tmp_path):
    first, second = report(folder, output=tmp_path / "a"), report(folder, output=tmp_path / "b")
    assert [p.read_bytes() for p in first.files] == [p.read_bytes() for p in second.files]


def test_report_refuses_a_folder_without_rows(tmp_path):
    with pytest.raises(ValueError, match="holds no rows"):
        report(tmp_path / "nowhere", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["taken", "taken/below"])
def test_report_refuses_an_output_that_is_a_file(folder, tmp_path, output):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ValueError, match="taken is a file"):
        report(folder, output=tmp_path / output)
    assert (tmp_path / "taken").read_text() == "mine"
