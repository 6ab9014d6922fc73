"""Latents: their gradients against autograd, and what they store."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sottovoce.numbers.grid import Grid, Quantized, round_to_grid
from sottovoce.numbers.palette import Palettized
from sottovoce.training.latent import AdapterLatent, MergedLatent, PartsLatent
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.weight import Layer, Weight
from sottovoce.weights.wrappers import Wrappers
from tests.methods.samples import noise
from tests.reference import latent as slow
from tests.training.samples import BASES, COLUMNS, GRIDS, ROWS, SECOND, assert_same_parts, parts_of, some_layer

every_base = pytest.mark.parametrize("kind", BASES)
masked_or_not = pytest.mark.parametrize("mask", [False, True], ids=["whole", "masked"])
GRADIENT = noise(ROWS, COLUMNS, seed=9)


def seeded():
    return torch.Generator().manual_seed(0)


@torch.no_grad()
def moved(latent, amount):
    """A latent after an update of every parameter, in place as an optimizer does it."""
    generator = torch.Generator().manual_seed(7)
    for parameter in latent.parameters.values():
        size = amount * parameter.abs().mean().clamp(min=0.1)
        parameter += size * torch.randn(parameter.shape, generator=generator)
    return latent


def leaf(tensor):
    return None if tensor is None else tensor.detach().double().requires_grad_()


def slow_base(start, latent, scale):
    """The base of a latent as a graph; scales are those it is stored with."""
    base = start.base
    if isinstance(base, Palettized):
        found = slow.in_table(latent, base.table.double().tolist())
    elif isinstance(base, Quantized):
        scale = base.scales().double() if scale is None else scale
        zero = torch.full(scale.shape, float(base.grid.middle)) if base.zero_point is None else base.zeros()
        found = slow.rounded(latent, scale, zero.double(), base.grid.bits, base.grid.group_size, base.grid.symmetric)
    else:
        found = latent
    if start.outliers is None:
        return found
    stored = latent.detach().to(start.outliers.values.dtype).double()
    return slow.with_outliers(found, latent, start.outliers.positions(), stored)


def assert_gradients(latent, dense, leaves):
    """What `pull` adds is what autograd says, and pulling twice adds twice."""
    (dense * GRADIENT.double()).sum().backward()
    for _ in range(2):
        latent.pull(GRADIENT)
    assert set(latent.parameters) == set(leaves)
    for name, parameter in latent.parameters.items():
        expected = 2 * leaves[name].grad
        assert expected.abs().max() > 0
        torch.testing.assert_close(parameter.grad.double(), expected, rtol=1e-4, atol=1e-4, msg=name)


# --- gradients against autograd -------------------------------------------------------------------


@pytest.mark.parametrize("outliers", [False, True], ids=["alone", "outliers"])
@pytest.mark.parametrize("factors", [False, True], ids=["plain", "factors"])
@masked_or_not
@every_base
def test_the_gradients_of_parts_are_those_of_rounding_passed_straight(kind, mask, factors, outliers):
    layer = some_layer(kind, mask, factors, outliers=outliers)
    start, learned = layer.weight, kind in GRIDS
    latent = moved(PartsLatent(layer, learned_scales=learned), 0.3)
    leaves = {name: leaf(parameter) for name, parameter in latent.parameters.items()}
    if learned:
        leaves["scale"] = leaf(latent.weight().base.scale)
    base = slow_base(start, leaves["base"], leaves.get("scale"))
    assert_gradients(latent, slow.dense(base, start.mask, leaves.get("left"), leaves.get("right")), leaves)


@pytest.mark.parametrize("kind", GRIDS)
def test_scales_that_are_not_learned_are_no_parameters_and_change_no_gradient(kind):
    layer = some_layer(kind)
    fixed, learned = (PartsLatent(layer, learned_scales=learned) for learned in (False, True))
    assert set(fixed.parameters) == {"base"}
    with torch.no_grad():
        for latent in (fixed, learned):
            latent.parameters["base"] += 0.1 * noise(ROWS, COLUMNS)
    for latent in (fixed, learned):
        latent.pull(GRADIENT)
    assert torch.equal(fixed.parameters["base"].grad, learned.parameters["base"].grad)
    assert torch.equal(fixed.weight().base.scale, layer.weight.base.scale)


def test_factors_that_replaced_the_base_have_the_gradients_of_their_product():
    latent = moved(PartsLatent(some_layer(None, factors=True)), 0.3)
    leaves = {name: leaf(parameter) for name, parameter in latent.parameters.items()}
    assert set(leaves) == {"left", "right"}
    assert_gradients(latent, slow.dense(None, None, leaves["left"], leaves["right"]), leaves)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("kind", [None, "3 bits in groups"])
def test_factors_on_a_grid_have_the_gradients_of_their_rounded_product_and_stop_at_its_ends(kind, symmetric):
    layer = some_layer(kind, factors=True)
    factors = CodedFactors.nearest(*layer.weight.factors(), Grid(3, "channel", symmetric))
    layer.weight = replace(layer.weight, low_rank=factors)
    untouched = PartsLatent(layer).weight()
    assert torch.equal(untouched.low_rank_product(), layer.weight.low_rank_product())
    latent = moved(PartsLatent(layer), 2.0)
    latent.pull(GRADIENT)
    stored = latent.weight().low_rank
    for side, other in (("left", "right"), ("right", "left")):
        codes, whole = getattr(stored, side), latent.parameters[side].detach()
        whole, over = (whole.T, getattr(stored, other).dense()) if side == "left" else (whole, stored.left.dense())
        expected = over @ (GRADIENT.T if side == "left" else GRADIENT)  # (directions, values)
        beyond = (
            codes.levels(whole).reshape(whole.shape) - codes.levels(codes.dense()).reshape(whole.shape)
        ).abs() > 0.5
        assert beyond.any()
        found = latent.parameters[side].grad.T if side == "left" else latent.parameters[side].grad
        torch.testing.assert_close(found, expected.masked_fill(beyond, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factors", [False, True], ids=["plain", "factors"])
@masked_or_not
@pytest.mark.parametrize("kind", ["float32", "3 bits in groups"])
def test_the_gradients_of_adapters_are_those_of_their_product_beside_a_still_base(kind, mask, factors):
    layer = some_layer(kind, mask, factors)
    latent = moved(AdapterLatent(layer, 3, torch.float16, seeded()), 0.3)
    leaves = {name: leaf(parameter) for name, parameter in latent.parameters.items()}
    assert leaves["left"].shape == (ROWS, 5 if factors else 3)
    still = layer.weight.masked_base().double()
    assert_gradients(latent, slow.dense(still, None, leaves["left"], leaves["right"]), leaves)


@pytest.mark.parametrize("outliers", [False, True], ids=["alone", "outliers"])
@masked_or_not
@every_base
def test_the_gradients_of_merged_adapters_pass_the_rounding_and_the_mask(kind, mask, outliers):
    layer = some_layer(kind, mask, factors=True, outliers=outliers)
    latent = moved(MergedLatent(layer, 3, seeded()), 0.3)
    leaves = {name: leaf(parameter) for name, parameter in latent.parameters.items()}
    scale = layer.weight.base.scale.double() if kind in GRIDS else None
    base = slow_base(layer.weight, layer.float_base().double() + leaves["left"] @ leaves["right"], scale)
    factors = [part.double() for part in layer.weight.low_rank]
    assert_gradients(latent, slow.dense(base, layer.weight.mask, *factors), leaves)


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("outliers", [False, True], ids=["alone", "outliers"])
@pytest.mark.parametrize("factors", [False, True], ids=["plain", "factors"])
@masked_or_not
@every_base
def test_an_untouched_latent_is_the_weight_it_was_made_of(kind, mask, factors, outliers):
    layer = some_layer(kind, mask, factors, outliers=outliers)
    if isinstance(layer.weight.base, torch.Tensor):
        layer.settle()  # a float base under a mask holds zeros from its segment's end on
    before = parts_of(layer.weight)
    for latent in (PartsLatent(layer), PartsLatent(layer, learned_scales=True), MergedLatent(layer, 2, seeded())):
        assert_same_parts(parts_of(latent.weight()), before)
    adapted = AdapterLatent(layer, 2, torch.float16, seeded()).weight()
    assert torch.allclose(adapted.dense(), layer.weight.dense(), rtol=0, atol=1e-6)
    for name, part in parts_of(adapted).items():
        cut = {"left": (slice(None), slice(2)), "right": (slice(2),)}.get(name, ()) if factors else ()
        first = part[cut]
        assert (name in ("left", "right") and not factors) or torch.equal(first, before[name])


@settings(max_examples=80, deadline=None)
@given(
    bits=st.integers(2, 8),
    size=st.sampled_from([4, "channel", "tensor"]),
    symmetric=st.booleans(),
    fractional=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    seed=st.integers(0, 1000),
    exponent=st.integers(-44, 30),
)
def test_an_untouched_base_gives_its_codes_again_whatever_the_grid(
    bits, size, symmetric, fractional, dtype, seed, exponent
):
    grid = Grid(bits, size, symmetric, dtype)
    try:
        base = round_to_grid(noise(3, 8, seed=seed) * 10.0**exponent, grid)
    except ValueError:  # beyond the dtype of the scales
        assume(False)
    if fractional and not symmetric:
        zero = (2**bits * torch.rand(base.scale.shape, generator=torch.Generator().manual_seed(seed))).to(dtype)
        base = Quantized(base.codes, base.scale, zero, grid)
    latent = PartsLatent(Layer("a", "linear", Weight(base), base.dense()), learned_scales=True)
    assert torch.equal(latent.weight().base.codes, base.codes)
    assert torch.equal(latent.weight().base.scale, base.scale)


@masked_or_not
@every_base
def test_after_many_updates_dropped_weights_are_zero_and_codes_on_the_grid(kind, mask):
    layer = some_layer(kind, mask)
    start = layer.weight
    for latent in (PartsLatent(layer, learned_scales=True), MergedLatent(layer, 2, seeded())):
        for _ in range(20):
            weight = moved(latent, 0.5).weight()
            assert weight.mask is start.mask
            assert torch.isfinite(weight.dense()).all()
            assert start.mask is None or (weight.dense()[~start.mask] == 0).all()
            if isinstance(start.base, torch.Tensor):
                assert weight.base.dtype == start.base.dtype
                continue
            if isinstance(start.base, Palettized):
                assert weight.base.table is start.base.table
                assert int(weight.base.codes.max()) < len(start.base.table)
                continue
            if kind == SECOND:
                assert weight.base.scale is start.base.scale
                assert weight.base.zero_point is start.base.zero_point
                continue
            grid = start.base.grid
            assert (weight.base.codes.dtype, weight.base.scale.dtype) == (torch.uint8, grid.scale_dtype)
            assert grid.lowest <= weight.base.codes.min()
            assert weight.base.codes.max() <= grid.levels - 1
            assert weight.base.zero_point is start.base.zero_point
            assert (weight.base.scale > 0).all()
        assert not torch.equal(weight.dense(), start.dense())


@masked_or_not
def test_a_dropped_weight_has_no_gradient(mask):
    for kind in BASES:
        layer = some_layer(kind, mask)
        latent = PartsLatent(layer)
        latent.pull(torch.ones(ROWS, COLUMNS))
        moving = latent.parameters["base"].grad != 0
        assert torch.equal(moving, torch.ones_like(moving) if layer.weight.mask is None else layer.weight.mask), kind


@masked_or_not
@every_base
def test_outliers_stay_where_they_are_and_learn_their_values(kind, mask):
    layer = some_layer(kind, mask, outliers=True)
    start = layer.weight.outliers
    latent = PartsLatent(layer, learned_scales=True)
    assert "outliers" not in latent.parameters
    with torch.no_grad():
        latent.parameters["base"] += 0.5
    found = latent.weight()
    assert found.outliers.columns is start.columns
    assert found.outliers.values.dtype == torch.float16
    kept = start.positions() if layer.weight.mask is None else start.positions() & layer.weight.mask
    moved_by = (found.dense() - layer.weight.dense())[kept]
    torch.testing.assert_close(moved_by, torch.full_like(moved_by, 0.5), rtol=0, atol=2e-3)
    adapted = AdapterLatent(layer, 2, torch.float16, seeded()).weight()
    assert adapted.outliers is start


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_learned_scale_stops_at_a_tenth_of_what_it_was_in_any_dtype(dtype):
    base = round_to_grid(noise(4, 8), Grid(4, scale_dtype=dtype))
    start = base.scale.float().clone()
    latent = PartsLatent(Layer("a", "linear", Weight(base), base.dense()), learned_scales=True)
    for _ in range(3):
        with torch.no_grad():
            latent.parameters["scale"] -= start
    torch.testing.assert_close(latent.weight().base.scale.float(), 0.1 * start, rtol=0.01, atol=0)


@pytest.mark.parametrize("kind", [*BASES, None])
def test_an_update_in_place_leaves_the_layer_it_was_made_of(kind):
    layer = some_layer(kind, mask=kind is not None, factors=True)
    if kind is None or kind == "float32":
        left, right = layer.weight.low_rank
        layer.weight = replace(layer.weight, low_rank=(left.float(), right.float()))
    before, target = parts_of(layer.weight), layer.target.clone()
    made = [PartsLatent(layer, learned_scales=True), AdapterLatent(layer, 2, torch.float32, seeded())]
    for latent in made if kind is None else [*made, MergedLatent(layer, 2, seeded())]:
        moved(latent, 1.0)
        assert_same_parts(parts_of(layer.weight), before)
        assert torch.equal(layer.target, target)


def test_new_factors_come_from_the_seed_and_differ_between_layers():
    layer, generator = some_layer("float32"), seeded()
    first, second = (AdapterLatent(layer, 2, torch.float32, generator).weight().low_rank for _ in range(2))
    again = AdapterLatent(layer, 2, torch.float32, seeded()).weight().low_rank
    assert not torch.equal(first[1], second[1])
    assert torch.equal(first[1], again[1])
    assert (first[0] == 0).all()


def test_merged_adapters_refuse_a_layer_without_a_base():
    layer = some_layer(None, factors=True, name="decoder.layers.1.fc2")
    with pytest.raises(ValueError, match=r"decoder\.layers\.1\.fc2 has no base .*merge: false would work"):
        MergedLatent(layer, 2, seeded())


# --- memory ---------------------------------------------------------------------------------------


def test_parameters_and_their_gradients_lie_in_rows_where_the_parts_do_not():
    """AdamW's fused steps on a GPU refuse a parameter and a gradient that lie in memory differently."""
    size, base = 4, noise(8, 12).T.contiguous().T
    wrappers = Wrappers(noise(2, size, size, seed=1).mT, noise(3, size, size, seed=2).mT)
    factors = (noise(2, 8, seed=3).T, noise(12, 2, seed=4).T)
    start = Weight(base, low_rank=factors, wrappers=wrappers)
    latent = PartsLatent(Layer("fc1", "linear", start, start.dense()))
    for _ in range(2):
        latent.pull(noise(12, 8, seed=5).T)
    assert set(latent.parameters) == {"base", "left", "right", "outer", "inner"}
    for name, parameter in latent.parameters.items():
        assert parameter.is_contiguous(), name
        assert parameter.grad.stride() == parameter.stride(), name
