"""--skip-unusable on the command line: what is left out is told on standard error and stands below the table."""

import json

import pytest
import soundfile
import yaml

from tests import toys
from tests.measure.manifests import rows_at_home, write_rows


@pytest.fixture
def mixed(heard, tmp_path):
    """Four clips and one that the toy Whisper cannot take, with a long list of those that are missing."""
    soundfile.write(tmp_path / "long.wav", toys.tones(32_001, toys.np.random.default_rng(0)), 16_000)
    gone = [{"audio": f"gone-{i}.wav", "text": "x"} for i in range(12)]
    return write_rows(tmp_path / "mixed.jsonl", [*rows_at_home(heard), {"audio": "long.wav", "text": "x"}, *gone])


def test_evaluate_names_them_and_counts_them_below_the_table(command, toy, mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked = ("evaluate", toy("whisper"), "--data", mixed, "--output", tmp_path / "run")
    refused = command(*asked)
    assert (refused.code, refused.out) == (2, "")
    lines = refused.err.splitlines()
    assert lines[0] == "error: 13 of the 17 clips of mixed cannot be used; --skip-unusable leaves them out:"
    assert "gone-0.wav is missing" in lines[1]
    [file] = tmp_path.glob("sottovoce-problems-*.txt")
    assert lines[-1] == f"... and 3 more; {file} lists all 13"
    assert "long.wav lasts 2.0001 s" in file.read_text(encoding="utf-8")
    assert not (tmp_path / "run").exists()

    done = command(*asked, "--skip-unusable")
    assert done.code == 0
    assert "13 of 17 clips of mixed left out" in " ".join(done.out.split())


def test_compress_and_sweep_take_it_too(command, toy, mixed, heard, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = command(
        *("compress", toy("whisper"), "-r", "gptq-w8", "--data", mixed, "-o", tmp_path / "out", "--skip-unusable"),
        "--json",
    )
    assert made.code == 0
    assert json.loads(made.out)["calibrations"][0]["left_out"] == 13
    document = {"models": [str(toy("whisper"))], "data": [str(mixed)], "recipes": ["rtn-w8"]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(document))
    swept = command("sweep", tmp_path / "sweep.yaml", "-o", tmp_path / "swept", "--skip-unusable", "--json")
    assert swept.code == 0
    assert [row["scores"][0]["left_out"] for row in json.loads(swept.out)["rows"]] == [13, 13]
