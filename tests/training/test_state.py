"""A training's state on disk: readable, cut, damaged."""

import json

import pytest
import torch

from sottovoce.training.state import CURVE, NUMBERS, STATE, TrainingFolder, read_tensors, write_tensors
from tests.training.tiny import Killed, fit, left, stopping_at


def test_a_curve_forgets_what_came_after_the_state_and_a_line_that_was_cut(tmp_path):
    fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "died", stopping_at(5))
    curve = tmp_path / "died" / CURVE
    with curve.open("a") as file:
        file.write(json.dumps({"step": 4, "loss": 9.0}) + "\n" + '{"step": 5, "lo')
    assert [line["step"] for line in TrainingFolder(tmp_path / "died").curve()] == [0, 1, 2, 3, 4]
    line = fit(tmp_path / "died")
    assert left(tmp_path / "died", line)[1] == left(tmp_path / "whole", line)[1]


def test_a_state_is_readable_by_anything_that_reads_safetensors_and_json(tmp_path):
    fit(tmp_path)
    tensors = read_tensors(tmp_path / "last" / STATE)
    assert {name.split(".")[0] for name in tensors} == {"parameter", "optimizer", "generator"}
    document = json.loads((tmp_path / "last" / NUMBERS).read_text())
    assert document["progress"]["finished"]
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json", ".jsonl"}


@pytest.mark.parametrize("cut", [0, 20, -8])
def test_a_damaged_state_is_refused_and_the_way_out_is_named(cut, tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path, stopping_at(5))
    file = tmp_path / "last" / STATE
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"state\.safetensors cannot be read .*delete its folder to train from the"):
        fit(tmp_path)


def test_tensors_that_cannot_be_written_are_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match=r"could not be written"):
        write_tensors(tmp_path / "nowhere" / "a.safetensors", {"a": torch.zeros(2)})
