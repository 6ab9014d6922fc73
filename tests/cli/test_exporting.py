import json

import pytest

from sottovoce.files.atomic import sha256
from tests.cli.test_bad_input import content
from tests.forgery import rewrite


def test_export_selftest_and_its_exit_codes(command, tmp_path):
    out = tmp_path / "phone"
    told = command("export", "builtin:whisper", "--to", "onnx", "--output", out, "--threads", 1)
    assert told.code == 0
    assert "next tokens of 3 clips match the artifact" in " ".join(told.out.split())
    assert "self-test passed" in told.out
    assert "encoder.onnx" in told.out

    again = command("selftest", out, "--json")
    assert again.code == 0
    assert json.loads(again.out)["passed"] is True

    expected = out / "selftest" / "expected.json"
    document = json.loads(expected.read_text())
    document["clips"][0]["text"] = "something else was said here"
    document["clips"][0]["chosen"][0] += 1
    document["clips"][0]["margins"][0] = 99.0
    expected.write_text(json.dumps(document))
    assert command("selftest", out).code == 2  # its hash has changed
    resealed(out)
    failed = command("selftest", out)
    assert failed.code == 3
    assert "0001.ogg: 'something else was said here' in the artifact" in " ".join(failed.out.split())
    assert "failed: 1 of " in failed.err
    assert "next tokens differ from the artifact's" in failed.err


def resealed(folder):
    hashed = sha256(folder / "selftest" / "expected.json")
    rewrite(folder, lambda document: document["files"].update({"selftest/expected.json": hashed}), "export.json")


def test_what_the_runtime_cannot_hold_is_a_table_before_any_work(command, tmp_path):
    assert command("compress", "builtin:whisper", "--recipe", "palette-w4", "--output", tmp_path / "a").code == 0
    before = content(tmp_path)
    told = command("export", tmp_path / "a", "--to", "onnx", "--output", tmp_path / "b")
    assert told.code == 2
    lines = told.err.splitlines()
    assert lines[0].startswith("error: ONNX Runtime cannot hold ")
    assert "codes are indices into a table of values (palettize)" in told.err
    assert lines[-1].endswith(" more")
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "onxx"], "unknown runtime 'onxx'; did you mean onnx?"),
        (["--to", "onnx", "--portable", "bmm"], "ONNX Runtime leaves no product to portable kernels"),
    ],
)
def test_a_wrong_export_is_refused_in_one_sentence(words, message, command, tmp_path):
    told = command("export", "builtin:whisper", *words, "--output", tmp_path / "b")
    assert told.code == 2
    assert message in told.err
    assert not (tmp_path / "b").exists()


def test_a_folder_that_holds_something_else_is_left_alone(command, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    told = command("export", "builtin:whisper", "--to", "onnx", "--output", tmp_path)
    assert told.code == 2
    assert "holds files that are no export" in told.err
    assert (tmp_path / "letter.txt").read_text() == "dear"
