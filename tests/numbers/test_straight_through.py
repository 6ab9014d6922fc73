import pytest
import torch

from sottovoce.numbers.grid import Grid, fit_scale, round_to_grid
from sottovoce.numbers.straight_through import levels_of, rounded, scale_of_range, straight
from tests.methods.samples import noise, some_weights
from tests.reference import straight_through as slow

ROWS, COLUMNS = 6, 24
W = some_weights(ROWS, COLUMNS)
GRIDS = [Grid(bits, size, symmetric) for bits in (2, 4) for size in (8, "channel") for symmetric in (True, False)]
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)


def ends(w, grid):
    groups = grid.grouped(w)
    return groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)


@pytest.mark.parametrize("grid", [*GRIDS, Grid(3, "tensor")], ids=str)
def test_over_the_whole_range_it_is_round_to_nearest(grid):
    scale, zero = scale_of_range(*ends(W, grid), grid)
    expected = round_to_grid(W, grid)
    assert torch.equal(rounded(W, scale, zero, None, grid), expected.dense())
    assert torch.equal(levels_of(W, scale, zero, None, grid), expected.codes)
    stored, _ = fit_scale(W, grid)
    assert torch.equal(scale.to(grid.scale_dtype), stored)


@every_grid
def test_values_and_gradients_are_those_of_the_slow_one(grid):
    w = W.double()
    low, high = ((0.7 * end).requires_grad_() for end in ends(w, grid))
    offset = (0.4 * noise(ROWS, COLUMNS, seed=3)).double().requires_grad_()
    gradient = noise(ROWS, COLUMNS, seed=4).double()
    scale, zero = scale_of_range(low, high, grid)
    found = rounded(w, scale, zero, offset, grid)
    found.backward(gradient)
    size = grid.group_size if isinstance(grid.group_size, int) else COLUMNS
    for row in range(ROWS):
        for g, start in enumerate(range(0, COLUMNS, size)):
            at = (row, slice(start, start + size))
            how = (low[row, g].item(), high[row, g].item(), grid.bits, grid.symmetric, grid.scale_dtype)
            inputs = w[at].tolist(), offset[at].tolist()
            values, *_ = slow.forward(*inputs, *how)
            assert found[at].tolist() == pytest.approx(values)
            of_offsets, of_low, of_high = slow.backward(gradient[at].tolist(), *inputs, *how)
            assert offset.grad[at].tolist() == pytest.approx(of_offsets)
            assert low.grad[row, g].item() == pytest.approx(of_low, rel=1e-6, abs=1e-12)
            assert high.grad[row, g].item() == pytest.approx(of_high, rel=1e-6, abs=1e-12)


def test_the_gradient_of_a_weight_is_its_own_inside_the_grid_and_none_beyond():
    grid = Grid(2, "channel", symmetric=False)
    w = torch.tensor([[-1.0, 0.2, 1.1, 9.0]], requires_grad=True)
    scale, zero = torch.tensor([[1.0]]), torch.tensor([[1.0]])
    rounded(w, scale, zero, None, grid).backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert w.grad.tolist() == [[1.0, 2.0, 3.0, 0.0]]


def test_straight_is_exactly_its_value():
    learned = noise(1000).requires_grad_()
    value = learned.detach().to(torch.float16).float()
    found = straight(value, learned)
    assert torch.equal(found, value)
    found.sum().backward()
    assert torch.equal(learned.grad, torch.ones(1000))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@every_grid
def test_groups_of_zeros_and_ranges_of_nothing_have_finite_gradients(grid, dtype):
    grid = Grid(grid.bits, grid.group_size, grid.symmetric, dtype)
    for w, share in ((torch.zeros(ROWS, COLUMNS), 1.0), (W, 0.0)):
        low, high = ((share * end).requires_grad_() for end in ends(w, grid))
        offset = torch.zeros_like(w).requires_grad_()
        scale, zero = scale_of_range(low, high, grid)
        made = rounded(w, scale, zero, offset, grid)
        made.backward(torch.ones_like(w))
        assert torch.isfinite(made).all()
        for tensor in (low, high, offset):
            assert torch.isfinite(tensor.grad).all()
