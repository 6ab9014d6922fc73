import pytest
import torch

from sottovoce.numbers.activation_range import SHARES, least_squares_range, percentile_range
from sottovoce.numbers.rounding import Rounding, found_scale
from tests.methods.samples import noise
from tests.reference import rounding as slow

X = noise(301, 5, seed=4).pow(3) * torch.tensor([0.1, 1.0, 5.0, 1.0, 1.0]) + torch.tensor([0, 0, 0, 9.0, -9.0])


@pytest.mark.parametrize("percentile", [50, 90, 99, 99.99, 100])
def test_a_percentile_is_that_of_the_sorted_values(percentile):
    low, high = percentile_range(X, percentile, symmetric=False)
    rest = 50 - percentile / 2
    for channel, values in enumerate(X.T.tolist()):
        assert float(low[channel]) == pytest.approx(slow.percentile(values, rest), rel=1e-4, abs=1e-5)
        assert float(high[channel]) == pytest.approx(slow.percentile(values, 100 - rest), rel=1e-4, abs=1e-5)
    low, high = percentile_range(X, percentile, symmetric=True)
    for channel, values in enumerate(X.abs().T.tolist()):
        assert float(high[channel]) == pytest.approx(slow.percentile(values, percentile), rel=1e-4, abs=1e-5)
    assert torch.equal(low, -high)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_channel_of_rare_values_keeps_its_whole_range(symmetric):
    x = torch.zeros(100, 2)
    x[7] = torch.tensor([3.0, -2.0])
    low, high = percentile_range(x, 90, symmetric)
    scale, zero = found_scale(low, high, 8, symmetric)
    assert torch.allclose(Rounding(8, "channel", symmetric, scale, zero)(x), x, atol=1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_share_of_the_range_leaves_less_error(bits, symmetric):
    low, high = X.amin(0), X.amax(0)
    scale, zero = found_scale(*least_squares_range(X, low, high, bits, symmetric), bits, symmetric)
    errors = (Rounding(bits, "channel", symmetric, scale, zero)(X) - X).square().sum(0)
    whole, none = found_scale(low, high, bits, symmetric)
    assert (errors <= (Rounding(bits, "channel", symmetric, whole, none)(X) - X).square().sum(0)).all()
    for channel, values in enumerate(X.T.tolist()):
        least = slow.least_error(values, float(low[channel]), float(high[channel]), bits, symmetric, SHARES)
        assert float(errors[channel]) == pytest.approx(least, rel=1e-3)


def test_what_is_on_every_grid_keeps_its_whole_range():
    low, high = least_squares_range(torch.zeros(10, 2), torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 0.0]), 4, False)
    assert (low.tolist(), high.tolist()) == ([-1.0, 0.0], [2.0, 0.0])
