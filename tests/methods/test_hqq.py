from itertools import product

import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.hqq import fit_zero, hqq
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid, Quantized, fit_scale, to_codes
from sottovoce.numbers.sparsity import keep_fraction
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, noise
from tests.reference import hqq as slow


def heavy_tailed(rows, columns, seed=0):
    """Student's t with three degrees of freedom, at the size of a model's weights."""
    chi = sum(noise(rows, columns, seed=100 * seed + i).square() for i in (1, 2, 3))
    return 0.05 * noise(rows, columns, seed=seed) / (chi / 3).sqrt()


def fitted(w, grid, mask=None, **options):
    layer = layer_of(w, mask=mask)
    layer.weight = hqq(layer, InputStats(), grid=grid, **options)
    return layer.weight


@pytest.mark.parametrize(("beta", "kappa"), [(10.0, 1.01), (100.0, 1.5)])  # 100 lets errors of this size through
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("bits", "size"), list(product([2, 3, 4], [8, "channel", "tensor"])))
def test_zeros_are_those_of_the_slow_iteration(bits, size, masked, beta, kappa):
    w, grid = heavy_tailed(4, 24).double(), Grid(bits, size, symmetric=False, scale_dtype=torch.float32)
    mask = keep_fraction(w.abs(), 0.5) if masked else None
    if mask is not None:
        mask[1], w = False, w * mask  # a group that keeps nothing
    scale, zero_point = (part.double() for part in fit_scale(w, grid))
    for iterations in (1, 2, 6):  # at a fixed point the last bit of the error would decide when to stop
        zero = fit_zero(w, mask, scale, zero_point, grid, 0.7, beta, kappa, iterations)
        expected = slow.fit_zero(
            grid.grouped(w).flatten(0, 1).tolist(),
            grid.grouped(torch.ones_like(w) if mask is None else mask).flatten(0, 1).tolist(),
            scale.flatten().tolist(),
            zero_point.flatten().tolist(),
            bits,
            0.7,
            beta,
            kappa,
            iterations,
        )
        assert zero.flatten().tolist() == pytest.approx(expected, abs=1e-6)


# What `Quantizer.quantize(w, nbits=bits, group_size=32, axis=1)` of hqq 0.2.8.post1 leaves of heavy_tailed(24, 96, s),
# by s: the means of |error|^0.7 and of |error|. `python -m bench.peers` runs the package itself; installed here,
# transformers would import it, and torch's compiler with it, into every process.
OFFICIAL = {
    2: ((0.076820, 0.027971), (0.078298, 0.028768), (0.076986, 0.028246), (0.081941, 0.030473)),
    3: ((0.043829, 0.012712), (0.045275, 0.013145), (0.045165, 0.013180), (0.045945, 0.013414)),
    4: ((0.026049, 0.006003), (0.026507, 0.006144), (0.026320, 0.006081), (0.026610, 0.006153)),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bits", OFFICIAL)
def test_the_error_is_at_most_that_of_its_authors_package(bits, seed):
    w = heavy_tailed(24, 96, seed)
    error = (w - fitted(w, Grid(bits, 32, symmetric=False, scale_dtype=torch.float32)).dense()).abs()
    for norm, theirs in zip((0.7, 1.0), OFFICIAL[bits][seed], strict=True):
        assert error.pow(norm).mean() <= 1.01 * theirs


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_it_starts_from_the_fractional_zero_of_the_range_and_never_ends_above_its_error(bits):
    grid = Grid(bits, 32, symmetric=False, scale_dtype=torch.float32)
    for seed in range(4):
        w = heavy_tailed(24, 96, seed)
        scale, _ = fit_scale(w, grid)
        start = -w.reshape(24, 3, 32).amin(-1) / scale
        unfitted = Quantized(to_codes(w, scale, start, grid), scale, start, grid)
        assert (fitted(w, grid).dense() - w).abs().mean() <= (unfitted.dense() - w).abs().mean()


@pytest.mark.parametrize(("bits", "size"), [(2, 32), (3, 32), (4, 32), (3, "channel"), (4, "channel")])
def test_on_heavy_tails_it_beats_rounding_to_nearest(bits, size):
    # not at 2 bits over a whole row, where a level at zero itself is worth more than the fit
    grid = Grid(bits, size, symmetric=False)
    error = nearest = 0.0
    for seed in range(4):
        w = heavy_tailed(24, 96, seed)
        error += (w - fitted(w, grid).dense()).abs().pow(0.7).mean()
        nearest += (w - rtn(layer_of(w), InputStats(), grid=grid).dense()).abs().pow(0.7).mean()
    assert error < 0.98 * nearest


def test_zeros_are_fractional_and_stored_like_scales_unless_rounded_to_levels():
    grid = Grid(3, 32, symmetric=False, scale_dtype=torch.bfloat16)
    w = heavy_tailed(8, 96)
    free, rounded = fitted(w, grid).base.zero_point, fitted(w, grid, round_zero=True).base.zero_point
    assert free.dtype == torch.bfloat16
    assert (free != free.round()).any()
    assert rounded.dtype == torch.uint8
    assert rounded.max() < grid.levels
    assert (rounded.float() - free.float()).abs().max() <= 0.5 + 0.02  # bfloat16 zeros


@pytest.mark.parametrize("round_zero", [False, True])
@pytest.mark.parametrize("size", [8, "channel", "tensor"])
def test_dropped_weights_have_no_say(size, round_zero):
    w, grid = heavy_tailed(8, 48), Grid(3, size, symmetric=False)
    mask = keep_fraction(w.abs(), 0.5)
    other = torch.where(mask, w, 100 * noise(8, 48, seed=9))
    one, two = (fitted(some, grid, mask, round_zero=round_zero) for some in (w, other))
    assert torch.equal(one.base.scale, two.base.scale)
    assert torch.equal(one.base.zero_point, two.base.zero_point)
    assert torch.equal(one.dense(), two.dense())
    assert (one.dense()[~mask] == 0).all()


def test_a_zero_fitted_to_the_kept_weights_is_not_pulled_towards_dropped_ones():
    w, grid = heavy_tailed(16, 96) + 0.05, Grid(2, 32, symmetric=False)
    mask = keep_fraction(w.abs(), 0.5)
    kept_error = (fitted(w, grid, mask).dense() - w)[mask].abs().mean()
    as_if_zero = (fitted(w * mask, grid).dense() - w)[mask].abs().mean()
    assert kept_error < as_if_zero


@pytest.mark.parametrize("w", [torch.zeros(4, 16), torch.full((4, 16), 0.3), torch.full((4, 16), -1e-9)])
def test_zero_and_constant_weights_stay(w):
    found = fitted(w, Grid(3, 8, symmetric=False))
    assert (found.dense() - w).abs().max() <= 1e-3


def test_a_symmetric_grid_is_refused():
    method = find("hqq")
    why = method.refuse(LayerShape("fc1", "linear", 8, 8), method.options.fill("hqq", {}))
    assert "set symmetric: false" in why
    assert method.refuse(LayerShape("fc1", "linear", 8, 8), method.options.fill("hqq", {"symmetric": False})) is None
