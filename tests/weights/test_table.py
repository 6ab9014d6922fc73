import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import sottovoce
from sottovoce.recognition.target import find_target
from sottovoce.weights.cost import bits_per_weight
from sottovoce.weights.table import Entry, TensorSpec, file_size
from tests.conftest import FRAMES, TOYS, WRITING

DTYPES = {
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs"]), min_size=1)
SPECS = st.builds(
    TensorSpec,
    NAMES.filter(lambda name: name != "__metadata__"),
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 12), max_size=3).map(tuple),
)


@settings(deadline=None)
@given(st.lists(SPECS, unique_by=lambda spec: spec.name, max_size=12))
def test_file_size_is_the_size_of_the_file_that_safetensors_writes(specs):
    file = save({spec.name: torch.zeros(spec.shape, dtype=DTYPES[spec.dtype]) for spec in specs})
    assert file_size(specs) == len(file)


def test_the_header_and_data_of_a_small_file_by_hand():
    header = (
        '{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}'
    )
    padded = -(-len(header) // 8) * 8
    assert file_size([TensorSpec("a", "uint8", (3,)), TensorSpec("b", "float32", (2,))]) == 8 + padded + 11


# --- an entry's parts -----------------------------------------------------------------------------

LINEAR = Entry("layer", "model.layer.weight", "linear", (8, 64), kept=512)
GROUPED = {"bits": 4, "group_size": 32, "scale_dtype": "float16"}


def parts(entry):
    return {spec.name.removeprefix("model.layer.weight"): (spec.dtype, spec.shape) for spec in entry.parts()}


@pytest.mark.parametrize(
    ("changes", "expected", "size"),
    [
        ({"dtype": "float16"}, {"": ("float16", (8, 64))}, 1024),
        (
            {**GROUPED, "symmetric": True},
            {".codes": ("uint8", (8, 32)), ".scale": ("float16", (8, 2))},
            256 + 32,
        ),
        (
            {**GROUPED, "symmetric": False, "zero": "integer"},
            {".codes": ("uint8", (8, 32)), ".scale": ("float16", (8, 2)), ".zero_point": ("uint8", (8, 1))},
            256 + 32 + 8,
        ),
        (
            {**GROUPED, "symmetric": False, "zero": "fractional"},
            {".codes": ("uint8", (8, 32)), ".scale": ("float16", (8, 2)), ".zero_point": ("float16", (8, 2))},
            256 + 32 + 32,
        ),
        (
            {"bits": 3, "group_size": "tensor", "symmetric": True, "scale_dtype": "float32"},
            {".codes": ("uint8", (8, 24)), ".scale": ("float32", (1, 1))},
            192 + 4,
        ),
        (
            {"bits": 3, "group_size": "channel", "symmetric": True, "scale_dtype": "bfloat16", "mask": "bitmap",
             "kept": 101},
            {".codes": ("uint8", (38,)), ".scale": ("bfloat16", (8, 1)), ".mask": ("uint8", (8, 8))},
            38 + 16 + 64,  # 303 bits of codes, 512 of mask
        ),
        (
            {"dtype": "float32", "mask": "2:4", "kept": 256},
            {".values": ("float32", (256,)), ".mask": ("uint8", (8, 6))},
            1024 + 48,  # 16 quads of 3 bits a row
        ),
        (
            {"dtype": "float32", "mask": "1:4", "kept": 128},
            {".values": ("float32", (128,)), ".mask": ("uint8", (8, 4))},
            512 + 32,  # 16 quads of 2 bits a row
        ),
        (
            {"dtype": "float16", "mask": "4:8", "kept": 256},
            {".values": ("float16", (256,)), ".mask": ("uint8", (8, 7))},
            512 + 56,  # 8 groups of 7 bits a row
        ),
        (
            {"dtype": "float16", "mask": "8:16", "kept": 256},
            {".values": ("float16", (256,)), ".mask": ("uint8", (8, 7))},
            512 + 56,  # 4 groups of 14 bits a row
        ),
        (
            {"rank": 3, "factor_dtype": "float16"},
            {".left": ("float16", (8, 3)), ".right": ("float16", (3, 64))},
            432,
        ),
        (
            {"rank": 3, "factor_bits": 4, "factor_group_size": 4, "factor_symmetric": False,
             "factor_scale_dtype": "bfloat16"},
            {".left.codes": ("uint8", (3, 4)), ".left.scale": ("bfloat16", (3, 2)),
             ".left.zero_point": ("uint8", (3, 1)), ".right.codes": ("uint8", (3, 32)),
             ".right.scale": ("bfloat16", (3, 16)), ".right.zero_point": ("uint8", (3, 8))},
            3 * (4 + 4 + 1 + 32 + 32 + 8),
        ),
        (
            {"rank": 3, "factor_bits": 3, "factor_group_size": "channel", "factor_symmetric": True,
             "factor_scale_dtype": "float16"},
            {".left.codes": ("uint8", (3, 3)), ".left.scale": ("float16", (3, 1)),
             ".right.codes": ("uint8", (3, 24)), ".right.scale": ("float16", (3, 1))},
            3 * (3 + 2 + 24 + 2),
        ),
        (
            {"rank": 3, "factor_dtype": "float16", "factor_mask": "2:4", "factor_kept": 96},
            {".left": ("float16", (8, 3)), ".right": ("float16", (96,)), ".right.mask": ("uint8", (3, 6))},
            48 + 192 + 18,
        ),
        (
            {"rank": 3, "factor_bits": 3, "factor_group_size": "channel", "factor_symmetric": True,
             "factor_scale_dtype": "float16", "factor_mask": "4:8", "factor_kept": 96},
            {".left.codes": ("uint8", (3, 3)), ".left.scale": ("float16", (3, 1)), ".right.codes": ("uint8", (36,)),
             ".right.scale": ("float16", (3, 1)), ".right.mask": ("uint8", (3, 7))},
            3 * (3 + 2) + 36 + 6 + 21,
        ),
        (
            {"dtype": "float32", "mask": "2:4", "kept": 256, "wrapper_size": 4, "wrapper_dtype": "float16"},
            {".values": ("float32", (256,)), ".mask": ("uint8", (8, 6)), ".outer": ("float16", (2, 4, 4)),
             ".inner": ("float16", (16, 4, 4))},
            1024 + 48 + 64 + 512,
        ),
        (
            {"dtype": "float32", "rank": 3, "factor_dtype": "float16"},
            {".values": ("float32", (8, 64)), ".left": ("float16", (8, 3)), ".right": ("float16", (3, 64))},
            2048 + 432,
        ),
        (
            {**GROUPED, "symmetric": True, "outliers": 5, "outlier_dtype": "float16"},
            {".codes": ("uint8", (8, 32)), ".scale": ("float16", (8, 2)), ".outlier_counts": ("uint16", (8,)),
             ".outlier_columns": ("uint16", (5,)), ".outlier_values": ("float16", (5,))},
            256 + 32 + 16 + 20,
        ),
        (
            {"dtype": "float16", "outliers": 5, "outlier_dtype": "float32"},
            {".values": ("float16", (8, 64)), ".outlier_counts": ("uint16", (8,)),
             ".outlier_columns": ("uint16", (5,)), ".outlier_values": ("float32", (5,))},
            1024 + 16 + 30,
        ),
        (
            {"bits": 3, "group_size": 16, "scale_dtype": "float16", "symmetric": False, "zero": "fractional",
             "scale_bits": 3, "zero_bits": 2, "scale_rows": 5},
            {".codes": ("uint8", (8, 24)), ".scale": ("uint8", (8, 2)), ".scale_start": ("float16", (2, 4)),
             ".scale_step": ("float16", (2, 4)), ".zero_point": ("uint8", (8, 1)),
             ".zero_point_start": ("float16", (2, 4)), ".zero_point_step": ("float16", (2, 4))},
            192 + 16 + 32 + 8 + 32,  # 4 numbers of 3 bits a row, of 2 bits; two lines for 8 rows
        ),
        (
            {"bits": 3, "palette": "float16", "mask": "bitmap", "kept": 101},
            {".codes": ("uint8", (38,)), ".table": ("float16", (8,)), ".mask": ("uint8", (8, 8))},
            38 + 16 + 64,
        ),
    ],
)  # fmt: skip
def test_a_layer_is_stored_as_these_parts(changes, expected, size):
    entry = dataclasses.replace(LINEAR, **changes)
    assert parts(entry) == expected
    assert entry.bytes == size


def test_four_bits_in_groups_of_32_with_scale_and_zero_take_4_point_625_bits():
    entry = dataclasses.replace(LINEAR, **GROUPED, symmetric=False, zero="integer")
    assert bits_per_weight([entry.as_cost()]) == 4 + 16 / 32 + 4 / 32 == 4.625
    assert (
        bits_per_weight([entry.as_cost(), dataclasses.replace(LINEAR, dtype="float32").as_cost()]) == (4.625 + 32) / 2
    )


def test_spqr_of_three_bits_takes_3_625_bits_and_32_more_for_each_outlier():
    square = Entry("layer", "model.layer.weight", "linear", (256, 256), kept=256 * 256)
    entry = dataclasses.replace(
        square, bits=3, group_size=16, symmetric=False, scale_dtype="float16", zero="fractional", scale_bits=3,
        zero_bits=3, scale_rows=16,
    )  # fmt: skip
    assert bits_per_weight([entry.as_cost()]) == 3 + 2 * 3 / 16 + 2 * 2 * 16 / (16 * 16) == 3.625
    outlying = dataclasses.replace(entry, outliers=655, outlier_dtype="float16")
    assert bits_per_weight([outlying.as_cost()]) == pytest.approx(3.625 + 0.01 * 32 + 16 / 256, rel=1e-4)


def test_an_outlier_and_an_entry_of_a_table_are_multiplied_as_floats():
    entry = dataclasses.replace(LINEAR, bits=3, palette="float16", outliers=5, outlier_dtype="bfloat16").as_cost()
    assert (entry.bits, entry.outliers, entry.outlier_bits) == (16, 5, 16)


@pytest.mark.parametrize("name", WRITING)
def test_an_entry_comes_back_from_json_as_it_was(name, toy, tmp_path):
    steps = [{"magnitude": {"where": "*fc1"}}, {"rtn": {"where": "*fc1", "symmetric": False}}]
    steps += [{"low_rank": {"where": "*fc2", "replace": True, "metric": "plain"}}]
    steps += [{"palettize": {"where": "*k_proj", "sigma": 2}}]
    artifact = sottovoce.compress(toy(name), recipe={"steps": steps}, output=tmp_path / "a")
    for entry in artifact.entries:
        assert Entry.of_document(json.loads(json.dumps(entry.as_document()))) == entry


@pytest.mark.parametrize("name", TOYS)
def test_the_table_of_a_checkpoint_is_that_of_its_artifact_without_steps(name, toy, tmp_path):
    nothing = {"steps": [{"rtn": {"where": ["~nothing"]}}]}
    artifact = sottovoce.compress(toy(name), recipe=nothing, output=tmp_path / "a")
    assert find_target(toy(name)).entries() == artifact.entries
    assert artifact.bytes == pytest.approx(
        find_target(toy(name)).bytes, rel=5e-3 if name in FRAMES else 1e-3
    )  # without what only a training reads
