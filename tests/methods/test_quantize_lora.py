from dataclasses import replace

import pytest
import torch

import sottovoce
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.gptq import gptq
from sottovoce.methods.low_rank import low_rank
from sottovoce.methods.quantize_lora import quantize_lora
from sottovoce.methods.rtn import rtn
from sottovoce.methods.slim_quant import slim_quant
from sottovoce.methods.wanda import wanda
from sottovoce.numbers.grid import Grid
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.packed import entry_of
from sottovoce.weights.weight import LayerShape, Weight
from tests.methods.samples import layer_of, noise, output_error, seen, some_inputs, some_weights
from tests.reference import quantize_lora as slow

ROWS, COLUMNS, RANK = 16, 32, 3
LEFT, RIGHT = noise(ROWS, RANK) * torch.tensor([10, 1, 0.01]), noise(RANK, COLUMNS, seed=1)


def factored(left=LEFT, right=RIGHT, base=None, mask=None):
    layer = layer_of(torch.zeros(len(left), right.shape[1]))
    layer.weight = Weight(base, mask, (left, right))
    return layer


def rounded(layer, **grid):
    return quantize_lora(layer, InputStats(), grid=Grid(**{"scale_dtype": torch.float32, **grid}))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("size", ["channel", 8])
def test_each_direction_is_rounded_by_itself(bits, size):
    found = rounded(factored(), bits=bits, group_size=size).low_rank_product()
    expected = slow.product(LEFT.tolist(), RIGHT.tolist(), bits, 0 if size == "channel" else size)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_a_direction_a_thousand_times_smaller_is_not_lost():
    found = rounded(factored(), bits=4).factors()
    for k in range(RANK):
        for ours, whole in ((found[0][:, k], LEFT[:, k]), (found[1][k], RIGHT[k])):
            assert (ours - whole).norm() < 0.15 * whole.norm()
    across = Grid(4, "channel", scale_dtype=torch.float32)  # a scale for each output, over all directions
    rows = rtn(layer_of(LEFT), InputStats(), grid=across).dense()
    assert not rows[:, 2].any()


def test_the_base_and_the_mask_stay():
    base, mask = noise(ROWS, COLUMNS, seed=4), noise(ROWS, COLUMNS, seed=5) > 0
    found = rounded(factored(base=base, mask=mask), bits=4)
    assert found.base is base
    assert found.mask is mask
    assert isinstance(found.low_rank, CodedFactors)


def test_a_layer_without_factors_stays_as_it_is():
    layer = layer_of(noise(ROWS, COLUMNS))
    assert quantize_lora(layer, InputStats(), grid=Grid()) is layer.weight


def test_factors_of_zeros_stay_zeros():
    found = rounded(factored(torch.zeros(ROWS, RANK)), bits=4)
    assert not found.low_rank_product().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scales_are_rounded_before_codes_are_chosen(dtype):
    found = rounded(factored(), bits=4, scale_dtype=dtype).low_rank
    for side, whole in ((found.left, LEFT.T), (found.right, RIGHT)):
        assert side.scale.dtype == dtype
        assert torch.equal(side.codes, side.like(whole).codes)


def test_four_bits_take_a_quarter_of_float16_and_a_scale_for_each_direction():
    layer = factored(noise(256, 32), noise(32, 512))
    floats = layer.weight = replace(layer.weight, low_rank=tuple(factor.half() for factor in layer.weight.low_rank))
    layer.target = layer.weight.dense()
    before = entry_of(layer, "w", (256, 512))
    layer.weight = quantize_lora(layer, InputStats(), grid=Grid(4))
    after = entry_of(layer, "w", (256, 512))
    assert floats.low_rank[0].dtype == torch.float16
    assert before.bytes == 2 * 32 * (256 + 512)
    assert after.bytes == 32 * (256 + 512) // 2 + 2 * 2 * 32
    assert (before.words, after.words) == ("rank 32 float16", "rank 32 int4 per channel")
    assert (before.as_cost().factor_bits, after.as_cost().factor_bits) == (16, 4)


# --- SLiM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantize", [rtn, slim_quant, gptq])
@pytest.mark.parametrize("seed", range(3))
def test_slim_has_less_error_than_wanda_and_quantization_and_rounded_factors_keep_most_of_it(seed, quantize):
    w, x = some_weights(64, 96, seed), some_inputs(500, 96, seed)
    grid = Grid(4, "tensor" if quantize is slim_quant else 32)
    layer, stats = layer_of(w), seen(x)
    layer.weight = wanda(layer, stats, sparsity="2:4")
    layer.weight = quantize(layer, stats, grid=grid)
    without = output_error(layer, x)
    layer.weight = low_rank(layer, stats, rank=0.25, metric="diagonal")
    floats = output_error(layer, x)
    layer.weight = quantize_lora(layer, stats, grid=Grid(4))
    assert floats < 0.7 * without
    assert output_error(layer, x) < floats + 0.1 * without


@pytest.mark.parametrize("seed", range(3))
def test_with_factors_of_four_bits_slim_has_less_error_than_more_bits_under_the_mask(seed):
    # what the factors cost in bytes, spent on the integers under the mask instead: most of the error is the mask's
    w, x = some_weights(64, 96, seed), some_inputs(500, 96, seed)
    stats, errors, sizes = seen(x), {}, {}
    for name, bits in (("slim", 4), ("more bits", 7)):
        layer = layer_of(w)
        layer.weight = wanda(layer, stats, sparsity="2:4")
        layer.weight = gptq(layer, stats, grid=Grid(bits, 32))
        if name == "slim":
            layer.weight = low_rank(layer, stats, rank=0.2, metric="diagonal")
            layer.weight = quantize_lora(layer, stats, grid=Grid(4))
        errors[name], sizes[name] = output_error(layer, x), entry_of(layer, "w", (64, 96)).bytes
    assert sizes["slim"] < sizes["more bits"]
    assert errors["slim"] < errors["more bits"]


def test_an_artifact_is_compressed_further_factors_and_rest_each_in_its_own_way(toy, speech, tmp_path):
    lite = {"liteasr": {"attention": 0.5, "mlp": 0.5, "multiple": 4}}
    first = sottovoce.compress(toy("moonshine"), recipe={"steps": [lite]}, data=speech, output=tmp_path / "a")
    factored = [entry.name for entry in first.entries if entry.rank]
    again = {"quantize_lora": {"where": factored}}
    rest = {"rtn": {"where": ["*", *(f"!{name}" for name in factored)]}}
    second = sottovoce.compress(tmp_path / "a", recipe={"steps": [again, rest]}, output=tmp_path / "b")
    assert second.bytes == second.predicted_bytes() < first.bytes
    assert {entry.name for entry in second.entries if entry.factor_bits == 4} == set(factored)
    assert all((entry.bits is None) == (entry.name in factored) for entry in second.entries)
    with pytest.raises(ValueError, match="would overwrite what an earlier compression wrote"):
        sottovoce.compress(tmp_path / "b", recipe={"steps": [again]}, output=tmp_path / "c")
    with pytest.raises(ValueError, match="no step before it gives"):
        sottovoce.compress(tmp_path / "a", recipe={"steps": ["quantize_lora"]}, output=tmp_path / "c")


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "message"), [("tensor", "group_size: channel would work"), (24, "the 16 inputs of the left factor of fc1")]
)
def test_groups_that_do_not_fit_are_refused(size, message):
    told = find("quantize_lora").refuse(LayerShape("fc1", "linear", 16, 48), {"group_size": size})
    assert message in told


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["quantize_lora"], "no step before it gives encoder.conv1 one; put low_rank, lora or liteasr before it"),
        (["rtn", "low_rank", "quantize_lora", "quantize_lora"], "would overwrite what quantize_lora wrote"),
        (["rtn", "low_rank", "quantize_lora", {"lora": {"rank": 2}}], "lora would add float columns to factors that"),
        (["rtn", "low_rank", "quantize_lora", "low_rank"], "low_rank would overwrite what low_rank wrote"),
        (["rtn", "low_rank", "quantize_lora", "wanda"], "of encoder.conv1 that rtn has already rounded; prune first"),
    ],
)
def test_an_order_that_cannot_work_is_refused(steps, message, toy):
    ranked = [{"low_rank": {"rank": 3}} if step == "low_rank" else step for step in steps]
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": ranked}), find_target(toy("whisper")).layout())
