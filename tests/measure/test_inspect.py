import json
import re
import struct
from math import prod
from pathlib import Path

import pytest

import sottovoce
from sottovoce.cli.tables import inspection_view
from sottovoce.models import open_model
from sottovoce.weights.cost import Workload

SLIM = {
    "grid": {"bits": 4, "group_size": 16, "symmetric": False},
    "steps": [
        {"magnitude": {"where": "*fc?", "sparsity": "2:4"}},
        {"rtn": {"where": "*fc?"}},
        {"low_rank": {"where": "*fc?", "metric": "plain", "rank": 4}},
        {"magnitude": {"where": "*k_proj", "sparsity": 0.5}},
        {"rtn": {"where": "*v_proj", "bits": 3, "group_size": "tensor"}},
    ],
}
KINDS = ("whisper", "whisper untied", "moonshine", "slim whisper", "slim moonshine")


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    def found(kind):
        if not kind.startswith("slim"):
            return toy(kind)
        path = tmp_path_factory.mktemp("slim") / "slim"
        sottovoce.compress(toy(kind.removeprefix("slim ")), recipe=SLIM, output=path)
        return path

    return found


def header(folder):
    """Name -> bytes of each stored tensor, and the bytes before the first, read without safetensors."""
    data = (Path(folder) / "model.safetensors").read_bytes()
    [length] = struct.unpack("<Q", data[:8])
    stored = json.loads(data[8 : 8 + length])
    stored.pop("__metadata__", None)
    return {name: end - start for name, (start, end) in ((n, t["data_offsets"]) for n, t in stored.items())}, 8 + length


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_all_rows_and_the_rest_are_the_files(kind, folder):
    path = folder(kind)
    seen = sottovoce.inspect(path)
    tensors, rest = header(path)
    for row in seen.rows:
        name = f"{row.name}.weight" if row.name == "proj_out" else f"model.{row.name}.weight"
        mine = [tensor for tensor in tensors if tensor == name or tensor.startswith(f"{name}.")]
        assert row.bytes == sum(tensors.pop(tensor) for tensor in mine) > 0
        assert row.bits == pytest.approx(8 * row.bytes / prod(row.shape))
    assert seen.rest_bytes == rest + sum(tensors.values())
    assert seen.bytes == (path / "model.safetensors").stat().st_size
    assert sum(row.share for row in seen.rows) + seen.rest_bytes / seen.bytes == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_its_totals_are_counted_over_the_layers(kind, folder):
    path = folder(kind)
    seen = sottovoce.inspect(path)
    assert seen.weights == sum(prod(row.shape) for row in seen.rows)
    assert seen.bits_per_weight == pytest.approx(8 * sum(row.bytes for row in seen.rows) / seen.weights)
    dropped = seen.weights - seen.nonzeros
    halved = [row for row in seen.rows if row.name.endswith(("fc1", "fc2", "k_proj"))] if "slim" in kind else []
    assert dropped == sum(prod(row.shape) // 2 for row in halved)


def test_its_parts_are_told_in_words(folder):
    parts = {row.name: row.parts for row in sottovoce.inspect(folder("slim whisper")).rows}
    assert parts["encoder.layers.0.fc1"] == "int4 group 16 + zero + 2:4 + rank 4 float16"
    assert parts["encoder.layers.0.self_attn.k_proj"] == "float32 + 50 % dropped"
    assert parts["encoder.layers.0.self_attn.v_proj"] == "int3 per tensor + zero"
    assert parts["encoder.conv1"] == "float32"


def test_integer_activations_are_told_in_words_where_there_are_any(toy, tmp_path):
    recipe = {"steps": [{"activations": {"symmetric": False}}, {"kv_cache": {"bits": 4}}]}
    sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / "a")
    seen = sottovoce.inspect(tmp_path / "a")
    told = {row.name: row.activations for row in seen.rows}
    assert told["encoder.layers.0.fc1"] == "int8 per token asymmetric"
    assert told["decoder.layers.0.encoder_attn.k_proj"] == "int8 per token asymmetric, kv int4"
    assert told["encoder.conv1"] == "-"
    assert {row.activations for row in sottovoce.inspect(toy("whisper")).rows} == {"-"}
    shown = [
        [column.header for column in table(seen).columns],
        [c.header for c in table(sottovoce.inspect(toy("whisper"))).columns],
    ]
    assert [words.count("activations") for words in shown] == [1, 0]


def table(seen):
    return next(iter(inspection_view(seen, 120)))


def test_outliers_rounded_scales_and_tables_are_told_in_words(toy, speech, tmp_path):
    steps = [{"spqr": {"where": "*fc1", "bits": 3}}, {"palettize": {"where": "*fc2", "bits": 2, "sigma": 2}}]
    steps += [{"spqr": {"where": "*k_proj", "symmetric": True, "outlier_threshold": "none"}}]
    artifact = sottovoce.compress(toy("whisper"), recipe={"steps": steps}, data=speech, limit=2, output=tmp_path / "a")
    parts = {row.name.rpartition(".")[2]: row.parts for row in sottovoce.inspect(artifact.folder).rows}
    assert re.fullmatch(r"int3 group 16 \+ float zero \(scales int3, zeros int3\) \+ outliers \d\.\d %", parts["fc1"])
    assert re.fullmatch(r"2-bit palette \+ outliers \d\.\d %", parts["fc2"])
    assert parts["k_proj"] == "int4 group 16 (scales int3)"


def test_an_uncompressed_checkpoint_has_every_layer_and_is_its_own_base(toy):
    seen = sottovoce.inspect(toy("whisper"))
    assert [row.name for row in seen.rows] == list(open_model(toy("whisper")).shapes)
    assert (seen.base, seen.base_bytes) == (seen.target, seen.bytes)
    assert (seen.recipes, seen.calibrations) == ((), ())
    assert {row.parts for row in seen.rows} == {"float32"}


def test_the_workload_is_the_window_or_the_one_that_is_asked_for(toy):
    by_itself = sottovoce.inspect(toy("whisper"))
    assert by_itself.workload == Workload(seconds=2.0, tokens=32)
    assert sottovoce.inspect(toy("moonshine")).workload == Workload(seconds=10.0, tokens=32)
    asked = sottovoce.inspect(toy("whisper"), workload=Workload(seconds=2.0, tokens=8, beam=2))
    assert asked.workload == Workload(seconds=2.0, tokens=8, beam=2)
    assert asked.cost.macs < by_itself.cost.macs
    assert asked.rows == by_itself.rows
