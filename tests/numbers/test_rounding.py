import pytest
import torch
from torch.nn.functional import linear

from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.numbers.rounding import Rounding, found_scale, level_range
from tests.methods.samples import noise, some_weights
from tests.reference import rounding as slow

X = noise(5, 7, 24, seed=3) * torch.logspace(-1, 1, 7)[:, None]
every_grid = pytest.mark.parametrize(("bits", "symmetric"), [(b, s) for b in (2, 4, 8) for s in (True, False)])


def fixed(bits, symmetric, low, high, per="tensor"):
    scale, zero = found_scale(torch.tensor(low), torch.tensor(high), bits, symmetric)
    return Rounding(bits, per, symmetric, scale, zero)


def test_levels_are_those_of_the_number_of_bits():
    assert level_range(4, True) == (-7, 7)
    assert level_range(8, True) == (-127, 127)
    assert level_range(4, False) == (0, 15)


@every_grid
def test_each_token_has_the_scale_of_its_own_range(bits, symmetric):
    found = Rounding(bits, "token", symmetric)(X)
    for ours, values in zip(found.reshape(-1, 24).tolist(), X.reshape(-1, 24).tolist(), strict=True):
        assert ours == pytest.approx(slow.rounded_vector(values, bits, symmetric), rel=1e-5, abs=1e-6)


@every_grid
def test_a_clip_has_one_scale_and_another_clip_no_say_in_it(bits, symmetric):
    rounding = Rounding(bits, "clip", symmetric)
    found = rounding(X)
    for i, clip in enumerate(X):
        values = clip.flatten().tolist()
        expected = slow.rounded_vector(values, bits, symmetric)
        assert found[i].flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert torch.equal(rounding(clip[None])[0], found[i])


@every_grid
def test_a_fixed_scale_clips_what_lies_beyond_its_range(bits, symmetric):
    found = fixed(bits, symmetric, -0.5, 2.0)(X)
    expected = slow.rounded(X.flatten().tolist(), -0.5, 2.0, bits, symmetric)
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert float(found.max()) == pytest.approx(2.0, rel=0.5 ** (bits - 1))


@every_grid
def test_each_channel_has_a_scale_of_its_own(bits, symmetric):
    low, high = X.amin((0, 1)), X.amax((0, 1))
    scale, zero = found_scale(low, high, bits, symmetric)
    found = Rounding(bits, "channel", symmetric, scale, zero)(X)
    for channel in range(24):
        values = X[..., channel].flatten().tolist()
        expected = slow.rounded(values, float(low[channel]), float(high[channel]), bits, symmetric)
        assert found[..., channel].flatten().tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@every_grid
def test_what_is_rounded_once_is_on_the_grid(bits, symmetric):
    rounding = fixed(bits, symmetric, -0.5, 2.0)
    once = rounding(X)
    torch.testing.assert_close(rounding(once), once)
    assert len(once.unique()) <= 2**bits


# --- outliers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_value_at_the_threshold_stays_as_it_is_and_widens_no_scale(symmetric):
    x = X.clone()
    x[0, 0, 3], x[0, 0, 5] = 6.0, -60.0
    found = Rounding(8, "token", symmetric, threshold=6.0)(x)
    assert found[0, 0, [3, 5]].tolist() == [6.0, -60.0]
    for ours, values in zip(found.reshape(-1, 24).tolist(), x.reshape(-1, 24).tolist(), strict=True):
        expected = slow.rounded_vector(values, 8, symmetric, threshold=6.0)
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_threshold_that_nothing_reaches_changes_nothing():
    assert torch.equal(Rounding(8, threshold=1e9)(X), Rounding(8)(X))


def test_where_all_are_outliers_nothing_is_rounded():
    assert torch.equal(Rounding(8, threshold=1e-9)(X), X)


# --- degenerate inputs ----------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["token", "clip"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("value", [0.0, 3.25, -3.25, 1e-30, 1e30])
def test_a_constant_activation_is_kept(value, symmetric, per):
    x = torch.full((2, 1, 6), value)
    found = Rounding(8, per, symmetric)(x)
    assert torch.allclose(found, x, rtol=1e-5, atol=0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_range_of_nothing_gives_zero_and_no_nan(symmetric):
    found = fixed(8, symmetric, 0.0, 0.0)(torch.tensor([[0.0, 1.0, -1e30]]))
    assert torch.isfinite(found).all()
    assert torch.allclose(found, torch.zeros(3), atol=1e-30)


def test_one_frame_and_none():
    assert Rounding(8)(X[:1, :1]).shape == (1, 1, 24)
    assert Rounding(8)(X[:, :0]).shape == (5, 0, 24)


def test_half_precision_is_rounded_in_float32():
    x = X.bfloat16()
    for rounding in (Rounding(8), Rounding(8, threshold=2.0), fixed(8, False, -1.0, 1.0)):
        found = rounding(x)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, rounding(x.float()).bfloat16())


# --- the integers that a runtime multiplies -------------------------------------------------------


@pytest.mark.parametrize("per", ["token", "tensor"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_product_of_rounded_floats_is_the_product_of_the_integers(bits, symmetric, per):
    x, w = X[0], some_weights(6, 24)
    rounding = Rounding(bits, "token", symmetric) if per == "token" else fixed(bits, symmetric, -2.0, 3.0)
    weight = round_to_grid(w, Grid(4, "channel", symmetric=False, scale_dtype=torch.float32))
    levels, zero, scale = rounding.levels(x)
    zero = torch.as_tensor(zero).expand(7, 1)
    assert weight.zero_point is not None
    codes = (levels - zero).to(torch.int32) @ (weight.codes.int() - weight.zero_point.int()).T
    integer = codes * scale.expand(7, 1) * weight.scale.T
    found = linear(rounding(x), weight.dense())
    torch.testing.assert_close(found, integer, rtol=1e-5, atol=1e-5 * float(integer.abs().max()))
    for i in range(7):
        for row in range(6):
            by_hand = slow.integer_product(
                levels[i].int().tolist(),
                int(zero[i]),
                float(scale.expand(7, 1)[i]),
                weight.codes[row].tolist(),
                int(weight.zero_point[row]),
                float(weight.scale[row]),
            )
            assert float(integer[i, row]) == pytest.approx(by_hand, rel=1e-5, abs=1e-6)


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rounding",
    [Rounding(3), Rounding(4, "clip", False), fixed(2, True, -1.0, 1.0), Rounding(8, threshold=1.0)],
    ids=["token", "clip", "fixed", "outliers"],
)
def test_gradients_pass_straight_through(rounding):
    x, pull = X.clone().requires_grad_(), noise(*X.shape, seed=9)
    out = rounding(x)
    (out * pull).sum().backward()
    torch.testing.assert_close(x.grad, pull)
    torch.testing.assert_close(out.detach(), rounding(X))
