import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.numbers.grid import Grid, Quantized, round_to_grid
from sottovoce.targets.onnx.blocks import block_size, container_bits, to_blocks
from sottovoce.weights.weight import Weight

ROWS = 6


def weights(columns, seed=0):
    return torch.randn(ROWS, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 8),
    st.sampled_from([16, 32, 48, 64, 96, "channel", "tensor"]),
    st.sampled_from([192, 288, 240]),
    st.booleans(),
    st.booleans(),
)
def test_blocks_hold_the_codes_and_the_very_weights(bits, group, columns, symmetric, masked):
    if isinstance(group, int) and columns % group:
        columns = 192
    base = round_to_grid(weights(columns), Grid(bits, group, symmetric))
    mask = torch.rand(ROWS, columns, generator=torch.Generator().manual_seed(1)) < 0.5 if masked else None
    blocks = to_blocks(base, mask)
    assert torch.equal(blocks.dense(), Weight(base, mask).dense())
    if mask is None:
        assert torch.equal(blocks.codes(), base.codes)
    assert blocks.blob.shape[2] * 8 == blocks.size * blocks.bits
    assert blocks.bits == container_bits(bits)


def test_zeros_between_levels_are_kept_as_they_are():
    grid = Grid(4, 32, symmetric=False)
    base = round_to_grid(weights(64), grid)
    zero = base.zero_point.to(torch.float16) + 0.25
    between = Quantized(base.codes, base.scale, zero, grid)
    assert torch.equal(to_blocks(between).dense(), between.dense())
    with pytest.raises(ValueError, match="no exact zero"):
        to_blocks(between, torch.ones(ROWS, 64, dtype=torch.bool))


@pytest.mark.parametrize(
    ("group", "columns", "expected"),
    [
        *[(32, 288, 32), (96, 288, 32), (48, 288, 16), (36, 288, None), (8, 64, None), (512, 1024, 256)],
        *[("channel", 384, 128), ("channel", 288, 32), ("channel", 100, 32), ("tensor", 416, 32)],
    ],
)
def test_a_block_is_the_longest_that_has_one_scale(group, columns, expected):
    assert block_size(Grid(4, group), columns) == expected


def test_a_row_that_blocks_do_not_divide_is_padded_and_read_back():
    base = round_to_grid(weights(100), Grid(4))
    blocks = to_blocks(base)
    assert blocks.blob.shape == (ROWS, 4, 16)
    assert torch.equal(blocks.dense(), base.dense())


def test_groups_too_short_for_a_block_are_refused():
    base = round_to_grid(weights(64), Grid(4, 8))
    with pytest.raises(ValueError, match="groups of 8 inputs; ONNX Runtime's blocks have 16 or more"):
        to_blocks(base)
