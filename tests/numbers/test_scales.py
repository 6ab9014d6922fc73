import pytest
import torch

from sottovoce.numbers.grid import Grid, Quantized, round_to_grid
from sottovoce.numbers.scales import RoundedScales, as_floats, round_scales
from tests.methods.samples import noise
from tests.reference import spqr as slow

HALF = torch.float16


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize(("rows", "size"), [(16, 16), (32, 16), (20, 16), (5, 16), (7, 1), (1, 4)])
def test_each_run_of_rows_lies_on_a_line_from_its_smallest_to_its_largest(rows, size, bits):
    numbers = noise(rows, 3).abs() + 0.1
    rounded = round_scales(numbers, bits, size, HALF)
    assert rounded.codes.shape == (rows, 3)
    assert rounded.start.shape == rounded.step.shape == (-(-rows // size), 3)
    assert int(rounded.codes.max()) < 2**bits
    for group in range(3):
        expected = slow.in_lines(numbers[:, group].tolist(), bits, size, HALF)
        assert rounded.dense()[:, group].tolist() == pytest.approx(expected, rel=1e-6)


def test_numbers_that_are_alike_are_kept_and_positive_ones_stay_positive():
    alike = torch.full((16, 2), 0.3).half().float()
    assert torch.equal(round_scales(alike, 3, 16, HALF).dense(), alike)
    spread = torch.logspace(-7, 0, 32)[:, None].half().float().clamp(min=6e-8)
    assert (round_scales(spread, 1, 16, HALF).dense() > 0).all()


def test_numbers_beyond_their_dtype_are_refused():
    with pytest.raises(ValueError, match=r"up to 1e\+06 cannot be stored as float16"):
        round_scales(torch.full((4, 1), 1e6), 3, 16, HALF)


def test_groups_stand_beside_each_other():
    numbers = noise(20, 4).abs()
    parts = [round_scales(numbers[:, g : g + 1], 3, 16, HALF) for g in range(4)]
    whole, together = round_scales(numbers, 3, 16, HALF), parts[0].beside(parts[1:])
    assert torch.equal(together.dense(), whole.dense())
    assert torch.equal(together.codes, whole.codes)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_weight_on_rounded_scales_is_levels_less_zero_times_scale(symmetric):
    w = noise(20, 32)
    plain = round_to_grid(w, Grid(4, 16, symmetric))
    scale = round_scales(plain.scales(), 3, 16, HALF)
    zero = None if symmetric else round_scales(plain.zeros(), 3, 16, HALF)
    weight = Quantized(plain.codes, scale, zero, plain.grid).like(w)
    assert torch.equal(as_floats(plain.scale), plain.scale.float())
    assert torch.equal(weight.scales(), scale.dense())
    for row in range(20):
        for column in range(32):
            group = column // 16
            middle = 8 if symmetric else zero.dense()[row, group].item()
            expected = (weight.codes[row, column].item() - middle) * scale.dense()[row, group].item()
            assert weight.dense()[row, column].item() == pytest.approx(expected, abs=1e-6)
            step = scale.dense()[row, group].item()
            if weight.inside(w)[row, column]:
                assert abs(expected - w[row, column].item()) <= 0.501 * step
    assert torch.equal(weight.like(weight.dense()).codes, weight.codes)


def test_moving_to_a_device_moves_every_part():
    moved = round_scales(noise(4, 2).abs(), 3, 16, HALF).to("meta")
    assert isinstance(moved, RoundedScales)
    assert {part.device.type for part in (moved.codes, moved.start, moved.step)} == {"meta"}
