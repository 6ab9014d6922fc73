from dataclasses import replace

import pytest
import torch

from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.numbers.palette import Palettized
from sottovoce.numbers.scales import round_scales
from sottovoce.numbers.sparse import Sparse
from sottovoce.weights.weight import Layer, Weight


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


W = noise(6, 8)
MASK = noise(6, 8, seed=1) > 0
FACTORS = (noise(6, 2, seed=2).half(), noise(2, 8, seed=3).half())
BASES = {
    "float32": W,
    "float16": W.half(),
    "symmetric": round_to_grid(W, Grid(3, 4)),
    "asymmetric": round_to_grid(W, Grid(3, 4, symmetric=False)),
    "palette": Palettized(torch.arange(48).reshape(6, 8).to(torch.uint8) % 4, torch.tensor([-1.0, 0.1, 0.5, 2]).half()),
    "none": None,
}
FAR = noise(6, 8, seed=4) > 0.7
OUTLIERS = Sparse.at(FAR, 10 * W, torch.float16)


def plain(base):
    if base is None:
        return torch.zeros(6, 8)
    return base.float() if isinstance(base, torch.Tensor) else base.dense()


@pytest.mark.parametrize("mask", [None, MASK], ids=["dense", "masked"])
@pytest.mark.parametrize(
    ("base", "factors"), [(base, f) for base in BASES for f in (None, FACTORS) if (base, f) != ("none", None)]
)
def test_dense_is_mask_times_base_plus_left_times_right(base, mask, factors):
    weight = Weight(BASES[base], mask, factors)
    dense = weight.dense()
    assert dense.dtype == torch.float32
    for i in range(6):
        for j in range(8):
            expected = plain(BASES[base])[i, j].item() if mask is None or mask[i, j] else 0.0
            if factors is not None:
                expected += sum(factors[0][i, r].item() * factors[1][r, j].item() for r in range(2))
            assert dense[i, j].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("base", ["float32", "float16", "symmetric", "asymmetric"])
def test_a_masked_weight_is_exactly_zero_whatever_its_base_holds(base):
    weight = Weight(BASES[base], MASK)
    assert (weight.dense()[~MASK] == 0).all()
    broken = Weight(W.masked_fill(~MASK, float("inf")), MASK)
    assert (broken.dense()[~MASK] == 0).all()


@pytest.mark.parametrize("factors", [None, FACTORS], ids=["alone", "with factors"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["dense", "masked"])
@pytest.mark.parametrize("base", [base for base in BASES if base != "none"])
def test_where_there_is_an_outlier_the_base_does_not_count_and_where_the_mask_drops_it_nothing_does(
    base, mask, factors
):
    weight = Weight(BASES[base], mask, factors, OUTLIERS)
    dense, product = weight.dense(), factors[0].float() @ factors[1].float() if factors else torch.zeros(6, 8)
    whole = torch.where(FAR, (10 * W).half().float(), plain(BASES[base]))
    kept = torch.ones_like(FAR) if mask is None else mask
    assert torch.equal(weight.whole_base(), whole)
    assert torch.equal(weight.masked_base(), torch.where(kept, whole, 0.0))
    torch.testing.assert_close(dense, torch.where(kept, whole, 0.0) + product, rtol=0, atol=1e-6)
    assert factors is not None or (dense[~kept] == 0).all()
    assert FAR[kept].any()
    assert mask is None or FAR[~kept].any()


def test_what_is_fitted_around_outliers_sees_them_as_the_base():
    layer = Layer("fc1", "linear", Weight(BASES["symmetric"], None, None, OUTLIERS), W.clone())
    assert torch.equal(layer.float_base()[FAR], (10 * W).half().float()[FAR])
    assert torch.equal(layer.left_for_low_rank(), W - layer.weight.masked_base())
    assert torch.equal(layer.left_for_base(), W)
    assert layer.with_base(W).outliers is None
    assert layer.with_base(BASES["palette"], OUTLIERS).outliers is OUTLIERS


def layer_of(base="float32", mask=None, factors=None):
    return Layer("fc1", "linear", Weight(BASES[base], mask, factors), W.clone())


def test_each_part_is_fitted_to_what_the_others_leave_over():
    product = FACTORS[0].float() @ FACTORS[1].float()
    layer = layer_of("symmetric", MASK, FACTORS)
    torch.testing.assert_close(layer.left_for_base(), W - product)
    torch.testing.assert_close(layer.kept_target(), (W - product) * MASK)
    torch.testing.assert_close(layer.left_for_low_rank(), W - BASES["symmetric"].dense() * MASK)
    torch.testing.assert_close(layer.float_base(), BASES["symmetric"].dense())
    assert torch.equal(layer_of().left_for_base(), W)
    assert torch.equal(layer_of().kept_target(), W)
    assert torch.equal(layer_of("none", factors=FACTORS).left_for_low_rank(), W)


def test_a_new_base_leaves_mask_and_factors():
    weight = layer_of("float32", MASK, FACTORS).with_base(BASES["symmetric"])
    assert weight == Weight(BASES["symmetric"], MASK, FACTORS)


@pytest.mark.parametrize("factors", [None, FACTORS], ids=["alone", "with factors"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["dense", "masked"])
@pytest.mark.parametrize("base", ["float32", "float16", "symmetric", "asymmetric", "palette"])
def test_settling_makes_what_the_weight_is_the_target_and_changes_no_value(base, mask, factors):
    layer = layer_of(base, mask, factors)
    before = layer.weight.dense()
    layer.settle()
    assert torch.equal(layer.weight.dense(), before)
    assert torch.equal(layer.target, before)
    assert layer.weight.mask is mask
    if isinstance(layer.weight.base, torch.Tensor):
        assert layer.weight.base.dtype == BASES[base].dtype
        assert mask is None or (layer.weight.base[~mask] == 0).all()
    else:
        assert layer.weight.base is BASES[base]


def test_settling_a_weight_of_factors_alone_keeps_it():
    layer = layer_of("none", None, FACTORS)
    layer.settle()
    assert layer.weight.base is None
    assert torch.equal(layer.target, FACTORS[0].float() @ FACTORS[1].float())


@pytest.mark.parametrize("base", ["float32", "symmetric", "palette"])
def test_settling_keeps_outliers_and_what_they_are(base):
    layer = Layer("fc1", "linear", Weight(BASES[base], MASK, FACTORS, OUTLIERS), W.clone())
    before = layer.weight.dense()
    layer.settle()
    assert torch.equal(layer.weight.dense(), before)
    assert torch.equal(layer.target, before)
    assert layer.weight.outliers is OUTLIERS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_changed_target_is_what_the_stored_base_can_hold(dtype):
    layer = Layer("fc1", "linear", Weight(W.to(dtype)), W.to(dtype).float())
    layer.change_target(W * 1.1)
    assert layer.weight.base.dtype == dtype
    assert torch.equal(layer.target, (W * 1.1).to(dtype).float())
    assert torch.equal(layer.weight.dense(), layer.target)


@pytest.mark.parametrize(
    "weight",
    [
        Weight(W, MASK),
        Weight(BASES["symmetric"]),
        Weight(W, None, FACTORS),
        Weight(None, None, FACTORS),
        Weight(BASES["palette"]),
        Weight(W, None, None, OUTLIERS),
    ],
    ids=["masked", "rounded", "corrected", "factored", "in a table", "with outliers"],
)
def test_the_basis_cannot_change_under_a_mask_a_grid_or_factors(weight):
    layer = replace(layer_of(), weight=weight)
    with pytest.raises(ValueError, match=r"basis of fc1 cannot change after it was masked, .*; put that step first"):
        layer.change_target(W * 2)
    assert layer.weight is weight
    assert torch.equal(layer.target, W)


@pytest.mark.parametrize("base", BASES)
def test_moving_to_a_device_keeps_every_part(base):
    layer = layer_of(base, MASK, FACTORS)
    before = layer.weight.dense()
    layer.to("meta")
    parts = [layer.target, layer.weight.mask, *layer.weight.low_rank]
    if base in ("symmetric", "asymmetric"):
        parts += [layer.weight.base.codes, layer.weight.base.scale]
        assert (layer.weight.base.zero_point is None) == (base == "symmetric")
        parts += [] if base == "symmetric" else [layer.weight.base.zero_point]
    elif base == "palette":
        parts += [layer.weight.base.codes, layer.weight.base.table]
    elif base != "none":
        parts.append(layer.weight.base)
    assert {part.device.type for part in parts} == {"meta"}
    assert torch.equal(layer_of(base, MASK, FACTORS).weight.to("cpu").dense(), before)


def test_a_layer_counts_the_inputs_of_one_output():
    assert layer_of().columns == 8


def test_an_updated_base_is_what_a_rounding_imitates_and_the_target_what_a_low_rank_term_does():
    moved = (W + 1).masked_fill(~MASK, 0.0)
    layer = Layer("fc1", "linear", Weight(moved, MASK, FACTORS, updated=True), W.clone())
    assert torch.equal(layer.left_for_base(), moved)
    assert torch.equal(layer.kept_target(), moved)
    assert torch.equal(layer.left_for_low_rank(), W - moved)
    assert layer.weight.to("cpu").updated
    layer.weight = layer.with_base(round_to_grid(moved, Grid(8)))
    assert not layer.weight.updated
    assert torch.equal(layer.left_for_base(), W - layer.weight.low_rank_product())


def test_a_segment_ends_with_a_base_that_is_not_updated_any_more():
    layer = Layer("fc1", "linear", Weight((W + 1).masked_fill(~MASK, 0.0), MASK, updated=True), W.clone())
    layer.settle()
    assert not layer.weight.updated
    assert torch.equal(layer.left_for_base(), layer.target)


ROWS = torch.tensor([0, 3, 4])


@pytest.mark.parametrize("mask", [None, MASK], ids=["dense", "masked"])
@pytest.mark.parametrize("far", [None, OUTLIERS], ids=["", "outliers"])
@pytest.mark.parametrize("base", [base for base in BASES if base != "none"])
def test_some_rows_of_a_weight_are_those_rows_of_what_it_stands_for(base, far, mask):
    weight = Weight(BASES[base], mask, None, far)
    assert torch.equal(weight.take_rows(ROWS).dense(), weight.dense()[ROWS])
    assert type(weight.take_rows(ROWS).base) is type(weight.base)


@pytest.mark.parametrize("base", ["symmetric", "none"])
def test_some_rows_of_factors_keep_the_right_one(base):
    weight = Weight(BASES[base], None, FACTORS)
    found = weight.take_rows(ROWS)
    assert torch.equal(found.low_rank[1], FACTORS[1])
    assert torch.allclose(found.dense(), weight.dense()[ROWS], atol=1e-6)


def test_one_scale_for_all_rows_stays_and_scales_on_shared_lines_get_lines_of_their_own():
    whole = round_to_grid(W, Grid(3, "tensor"))
    assert torch.equal(Weight(whole).take_rows(ROWS).dense(), whole.dense()[ROWS])
    assert Weight(whole).take_rows(ROWS).base.scale.shape == (1, 1)
    plain = round_to_grid(W, Grid(3, 4, symmetric=False))
    rounded = [round_scales(part, 3, 4, torch.float16) for part in (plain.scales(), plain.zeros())]
    weight = Weight(replace(plain, scale=rounded[0], zero_point=rounded[1]))
    found = weight.take_rows(ROWS)
    assert torch.equal(found.dense(), weight.dense()[ROWS])
    assert found.base.scale.size == 1


def test_rows_without_outliers_have_none():
    places = torch.zeros(6, 8, dtype=torch.bool)
    places[1] = True
    weight = Weight(W, outliers=Sparse.at(places, 10 * W, torch.float16))
    assert weight.take_rows(ROWS).outliers is None
    assert len(weight.take_rows(torch.tensor([1, 2])).outliers) == 8
