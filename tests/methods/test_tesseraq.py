import pytest
import torch

from sottovoce.blocks.layers import Share
from sottovoce.blocks.settings import Learning
from sottovoce.methods.tesseraq import SOFT, Soft, soften, tesseraq, upper
from sottovoce.numbers.grid import Grid, fit_scale
from tests.methods.degenerate import MASK, assert_finite_and_near, every_case
from tests.methods.samples import errors_beside_rtn, noise, some_weights
from tests.methods.test_autoround import GRIDS
from tests.reference import tesseraq as slow
from tests.tiers import one_fast

W = some_weights(8, 24)


def soft(grid, w=W, mask=None):
    return Soft(Share("layer", w, mask, None), grid, *fit_scale(w, grid))


def test_a_part_of_a_level_is_found_again():
    parts = torch.linspace(0, 0.999, 100)
    torch.testing.assert_close(upper(soften(parts)), parts, atol=1e-5, rtol=0)
    assert soften(torch.tensor(0.3)).item() == pytest.approx(slow.soft(0.3, 1.0), rel=1e-5)
    for rounding in (-torch.inf, -3.0, 0.2, 3.0, torch.inf):
        assert upper(torch.tensor(rounding)).item() == pytest.approx(slow.upper(rounding), abs=1e-6)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_it_begins_at_the_weights_themselves(grid):
    [made] = soft(grid).values().values()
    scale, _ = fit_scale(W, grid)
    # an end of an asymmetric range lies off its grid by what its zero was rounded by
    inside = grid.grouped((made - W).abs()) <= 0.5 * scale.float()[..., None] + 1e-6
    assert inside.all()
    near = grid.grouped((made - W).abs()) <= 1e-5 * scale.float()[..., None]
    assert near.float().mean() > 0.7


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_hardening_and_soft_weights_are_those_of_the_slow_one(grid):
    base = soft(grid)
    with torch.no_grad():
        base.rounding.add_(0.5 * noise(*base.rounding.shape, seed=3))
        base.factor.copy_(0.3 * noise(*base.factor.shape, seed=4))
    base.share = Share("layer", W, None, None)
    for share in SOFT:
        expected = slow.harden(base.rounding.flatten().tolist(), share)
        base.harden(share)
        assert base.rounding.flatten().tolist() == expected
        lowest, highest = grid.lowest, grid.levels - 1
        groups = grid.grouped(W)
        made = grid.grouped(base.values()["layer.weight"])
        scale, zero = fit_scale(W, grid)
        for r, g in ((0, 0), (3, scale.shape[1] - 1)):
            z = grid.middle if zero is None else int(zero[r, g])
            for i, weight in enumerate(groups[r, g].tolist()):
                how = base.rounding[r, g, i].item(), base.factor[r, g, 0].item(), scale[r, g].item(), z
                expected_weight = slow.weight(weight, *how, lowest, highest)
                # the factor's scale is stored in float16
                assert made[r, g, i].item() == pytest.approx(expected_weight, rel=1e-3, abs=1e-5)
    assert torch.isfinite(base.rounding).float().mean() <= 0.006


def test_what_is_stored_is_what_was_judged():
    grid, mask = Grid(3, 8, symmetric=False), noise(8, 24, seed=2) > 0
    base = soft(grid, mask=mask)
    with torch.no_grad():
        base.rounding.copy_(noise(*base.rounding.shape, seed=3))
        base.factor.copy_(0.3 * noise(*base.factor.shape, seed=4))
    base.hard = True
    [judged] = base.values().values()
    stored = base.quantized()
    assert torch.equal(base.share.dense(stored.dense())["layer.weight"], judged)
    assert stored.scale.dtype == torch.float16


@pytest.mark.parametrize(("symmetric", "bits"), one_fast([True, False], [3, 2, 4]))
def test_outputs_are_nearer_than_those_of_rounding_to_nearest(bits, symmetric):
    nearest, learned = errors_beside_rtn(tesseraq, grid=Grid(bits, 16, symmetric), learning=Learning(iterations=200))
    assert learned < 0.7 * nearest


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grid", [Grid(4), Grid(2, 8, symmetric=False), Grid(4, "tensor", symmetric=False)], ids=str)
@every_case
def test_degenerate_weights_and_inputs_give_finite_weights_near_the_target(case, grid, masked):
    assert_finite_and_near(tesseraq, case, grid, MASK if masked else None, learning=Learning(iterations=20))
