import pytest
import torch

from sottovoce.numbers.clipping import (
    MSE_NORM,
    MSE_SHARES,
    OUTPUT_SHARES,
    fit_by_output,
    fit_by_weights,
    output_error,
)
from sottovoce.numbers.grid import Grid, fit_scale, round_to_grid
from tests.methods.samples import noise, seen, some_inputs, some_weights
from tests.reference import clipping as slow
from tests.reference import grid as grid_slow

GRIDS = [(bits, size, symmetric) for bits in (2, 3, 4) for size in (8, "channel") for symmetric in (True, False)]
every_grid = pytest.mark.parametrize(("bits", "size", "symmetric"), GRIDS)


@pytest.mark.parametrize("by", ["weights", "output"])
@every_grid
def test_the_range_is_that_of_the_slow_search(bits, size, symmetric, by):
    w, grid = some_weights(5, 24).double(), Grid(bits, size, symmetric, torch.float32)
    gram = seen(some_inputs(60, 24)).gram.double() / 60
    scale, zero = (fit_by_weights if by == "weights" else fit_by_output(gram))(w, grid)
    shares = MSE_SHARES if by == "weights" else OUTPUT_SHARES
    for row, places in enumerate(grid_slow.groups(5, 24, size)):
        for group, at in enumerate(places):
            columns = [c for _, c in at]
            block = None if by == "weights" else gram[columns][:, columns].tolist()
            _, expected, level = slow.best_share(
                [w[place].item() for place in at], block, bits, symmetric, torch.float32, shares, MSE_NORM
            )
            assert scale[row, group].item() == pytest.approx(expected, rel=1e-6)
            if zero is not None:
                assert zero[row, group].item() == level


@every_grid
def test_no_group_is_worse_than_with_its_whole_range_and_some_are_better(bits, size, symmetric):
    w, grid = some_weights(12, 24), Grid(bits, size, symmetric)
    gram = seen(some_inputs(60, 24)).gram
    whole, by_weights, by_output = (
        round_to_grid(w, grid, fit).dense() - w for fit in (fit_scale, fit_by_weights, fit_by_output(gram))
    )
    powers = [grid.grouped(off).abs().pow(MSE_NORM).sum(-1) for off in (whole, by_weights)]
    assert (powers[1] <= powers[0]).all()
    assert (powers[1] < powers[0]).any()
    errors = [output_error(off, gram, grid) for off in (whole, by_output)]
    assert (errors[1] <= errors[0] * (1 + 1e-5)).all()
    assert (errors[1] < errors[0]).any()


@pytest.mark.parametrize("size", [8, "channel", "tensor"])
def test_the_output_error_is_what_the_layer_puts_out_wrong(size):
    x, off = some_inputs(40, 24).double(), 0.1 * noise(5, 24).double()
    found = output_error(off, x.T @ x, Grid(4, size))
    if size == 8:
        expected = torch.stack([(off[:, i : i + 8] @ x[:, i : i + 8].T).square().sum(1) for i in (0, 8, 16)], 1)
    else:
        expected = (off @ x.T).square().sum(1, keepdim=True)
    if size == "tensor":
        expected = expected.sum(0, keepdim=True)
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("fit", [fit_by_weights, fit_by_output(torch.zeros(8, 8))])
@pytest.mark.parametrize("w", [torch.zeros(3, 8), torch.eye(8)])
def test_nothing_to_gain_keeps_the_whole_range(fit, w):
    grid = Grid(4, "channel")
    assert torch.equal(fit(w, grid)[0], fit_scale(w, grid)[0])
