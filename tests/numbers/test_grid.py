import itertools
from dataclasses import replace

import pytest
import torch

from sottovoce.numbers.grid import (
    SCALE_DTYPES,
    Grid,
    Quantized,
    check_groups,
    fit_scale,
    round_to_grid,
    stored_scale,
    to_codes,
)
from tests.reference import grid as slow

TIE = 0.5 + 1e-4  # a float32 quotient may fall on the other side of a tie
BITS = range(2, 9)
SIZES = [4, 12, "channel", "tensor"]
GRIDS = [Grid(bits, size, symmetric) for bits, size, symmetric in itertools.product(BITS, SIZES, [True, False])]


def named(grid):
    kind = "symmetric" if grid.symmetric else "asymmetric"
    return f"{grid.bits}-{grid.group_size}-{kind}"


def some_weights(rows=3, columns=24, seed=0):
    """Rows of different sizes and offsets, so that no two groups may share a scale unseen."""
    noise = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, columns, generator=noise) * 0.1
    size = torch.logspace(-1, 1, rows)[:, None]
    return w * size + 0.05 * torch.randn(rows, 1, generator=noise)


@pytest.mark.parametrize("dtype", SCALE_DTYPES.values())
@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_scales_zeros_and_levels_are_those_of_the_slow_way(grid, dtype):
    grid = replace(grid, scale_dtype=dtype)
    w = some_weights()
    scale, zero_point = fit_scale(w, grid)
    codes = to_codes(w, scale, zero_point, grid)
    dense = Quantized(codes, scale, zero_point, grid).dense()
    assert scale.dtype == grid.scale_dtype
    assert codes.dtype == torch.uint8
    assert (zero_point is None) == grid.symmetric

    table = slow.groups(*w.shape, grid.group_size)
    assert scale.shape == (len(table), len(table[0]))
    for row, groups in enumerate(table):
        for group, places in enumerate(groups):
            expected, zero = slow.fit([w[p].item() for p in places], grid.bits, grid.symmetric, grid.scale_dtype)
            s = scale[row, group].item()
            assert s == pytest.approx(expected, rel=torch.finfo(grid.scale_dtype).eps)
            z = grid.middle if zero_point is None else zero_point[row, group].item()
            assert abs(z - min(zero, 2**grid.bits - 1)) <= TIE * (1 + 2**grid.bits * abs(s / expected - 1))
            for p in places:
                assert abs(codes[p].item() - slow.level(w[p].item(), s, z, grid.bits, grid.symmetric)) <= TIE
                assert dense[p].item() == pytest.approx((codes[p].item() - z) * s, rel=1e-6)


@pytest.mark.parametrize("dtype", SCALE_DTYPES.values())
@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_no_weight_inside_the_range_moves_by_more_than_half_a_stored_scale(grid, dtype):
    grid = replace(grid, scale_dtype=dtype)
    w = some_weights(seed=1)
    quantized = round_to_grid(w, grid)
    ends = [
        Quantized(torch.full_like(quantized.codes, end), quantized.scale, quantized.zero_point, grid).dense()
        for end in (grid.lowest, grid.levels - 1)
    ]
    half = (
        Quantized(torch.ones_like(quantized.codes), quantized.scale, torch.zeros_like(quantized.scale), grid).dense()
        / 2
    )
    inside = (w >= ends[0]) & (w <= ends[1])
    error = (quantized.dense() - w).abs()
    assert inside.float().mean() > 0.5
    assert (error <= half * (1 + 1e-4))[inside].all()
    # a zero or a scale that was rounded leaves an end outside by less than a level
    assert (error <= 2 * half * (1 + 1e-4)).all()


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_zero_and_all_levels_in_use_are_rounded_to_themselves(grid):
    scale, zero_point = fit_scale(some_weights(), grid)
    for level in range(grid.lowest, grid.levels):
        codes = torch.full((3, 24), level, dtype=torch.uint8)
        dense = Quantized(codes, scale, zero_point, grid).dense()
        assert torch.equal(to_codes(dense, scale, zero_point, grid), codes)
    zero = torch.zeros(3, 24)
    assert torch.equal(Quantized(to_codes(zero, scale, zero_point, grid), scale, zero_point, grid).dense(), zero)


@pytest.mark.parametrize("low", [0.2, -0.2])
@pytest.mark.parametrize("bits", BITS)
def test_zero_is_a_level_where_all_weights_have_one_sign(bits, low):
    w = low * torch.linspace(1, 3, 16)[None]
    w[0, 5] = 0.0
    assert round_to_grid(w, Grid(bits, symmetric=False)).dense()[0, 5] == 0


@pytest.mark.parametrize("bits", BITS)
def test_a_symmetric_grid_holds_minus_w_with_w(bits):
    w = some_weights()
    grid = Grid(bits, 12)
    assert torch.equal(round_to_grid(-w, grid).dense(), -round_to_grid(w, grid).dense())
    assert round_to_grid(w, grid).codes.min() >= 1


def test_two_bits_symmetric_are_minus_one_zero_and_one():
    quantized = round_to_grid(torch.tensor([[-0.5, -0.3, -0.2, 0.0, 0.2, 0.3, 0.5]]), Grid(2))
    assert quantized.scale.tolist() == [[0.5]]
    assert (quantized.dense() / 0.5).tolist() == [[-1, -1, 0, 0, 0, 1, 1]]


def test_the_scale_is_rounded_before_codes_are_chosen():
    # 1.005 / 127 becomes 0.0079346 in bfloat16, 0.27 % more: 0.9945 is then 125 steps, not 126
    w = torch.tensor([[1.005, 0.9945]])
    grid = Grid(8, scale_dtype=torch.bfloat16)
    quantized = round_to_grid(w, grid)
    assert round(0.9945 / (1.005 / 127)) == 126
    assert round(0.9945 / quantized.scale.item()) == 125
    assert quantized.codes[0, 1] - grid.middle == 125


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_zero_and_constant_groups_are_finite_and_near(grid):
    for value in (0.0, 0.3, -0.3, 1e-9, -1e-9, 200.0):
        w = torch.full((3, 24), value)
        quantized = round_to_grid(w, grid)
        assert torch.isfinite(quantized.scale).all()
        assert (quantized.scale > 0).all()
        assert (quantized.dense() - w).abs().max() <= max(1e-3 * abs(value), 1e-9)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", SCALE_DTYPES.values())
def test_a_weight_that_is_not_finite_is_refused(symmetric, wrong, dtype):
    w = some_weights()
    w[1, 7] = wrong
    with pytest.raises(ValueError, match="a weight that is not finite fits no grid"):
        fit_scale(w, Grid(4, 12, symmetric, dtype))


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_scale_beyond_float16_is_refused_and_the_message_names_dtypes_that_work(symmetric):
    w = torch.tensor([[-1e6, 1e6]])
    with pytest.raises(ValueError, match="cannot be stored as float16; bfloat16 and float32 reach further"):
        fit_scale(w, Grid(4, symmetric=symmetric))
    for dtype in (torch.bfloat16, torch.float32):
        assert (round_to_grid(w, Grid(4, symmetric=symmetric, scale_dtype=dtype)).dense() - w).abs().max() < 1e5


@pytest.mark.parametrize("dtype", SCALE_DTYPES.values())
def test_a_scale_that_would_vanish_becomes_the_smallest_normal_number(dtype):
    assert stored_scale(torch.tensor([0.0, 1.0]), dtype).tolist() == [torch.finfo(dtype).tiny, 1.0]


def test_a_row_of_small_weights_keeps_its_resolution_under_a_float16_scale():
    w = torch.linspace(-0.003, 0.003, 256)[None]  # the scale, 2.4e-5, is a subnormal float16
    rounded = round_to_grid(w, Grid(8)).dense()
    assert (rounded - w).abs().max() < 0.003 / 127


@pytest.mark.parametrize(
    ("columns", "size", "works"),
    [
        (288, 64, "16 and 32 and 36 and 48 and 96 do"),
        (416, 64, "16 and 32 and 52 do"),
        (127, 32, "none of the usual sizes does"),
    ],
)
def test_a_group_that_does_not_divide_is_refused_with_those_that_do(columns, size, works):
    with pytest.raises(ValueError, match=f"group_size {size} does not divide the {columns} inputs of mlp.fc1; {works}"):
        check_groups(size, columns, "mlp.fc1")


@pytest.mark.parametrize(("columns", "size"), [(288, 32), (416, 52), (127, "channel"), (127, "tensor"), (127, 127)])
def test_a_group_that_divides_is_taken(columns, size):
    check_groups(size, columns, "mlp.fc1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "bits must be 2 to 8, found 1"),
        ({"bits": 9}, "bits must be 2 to 8, found 9"),
        ({"group_size": 0}, "group_size must be a positive number of inputs, found 0"),
        ({"group_size": "row"}, 'group_size must be a number, "channel" or "tensor", found \'row\''),
    ],
)
def test_an_impossible_grid_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Grid(**options)


@pytest.mark.parametrize("bits", BITS)
def test_a_weight_beyond_the_range_gets_the_end_and_level_zero_stays_unused_on_a_symmetric_grid(bits):
    # GPTQ moves weights out of the range that their scale was fitted to
    grid, scale = Grid(bits), torch.ones(1, 1, dtype=torch.float16)
    w = torch.tensor([[-1e3, 1e3]])
    ends = Quantized(to_codes(w, scale, None, grid), scale, None, grid).dense()
    assert ends.tolist() == [[1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1]]
    asymmetric, zero_point = Grid(bits, symmetric=False), torch.ones(1, 1, dtype=torch.uint8)
    assert to_codes(w, scale, zero_point, asymmetric).tolist() == [[0, 2**bits - 1]]
