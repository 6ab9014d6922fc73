import pytest
import torch
from torch.nn.functional import linear

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.llm_int8 import llm_int8
from sottovoce.methods.rtn import rtn
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.numbers.grid import Grid
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from tests.methods.samples import layer_of, noise, some_inputs, some_weights
from tests.reference import llm_int8 as slow

W, X = some_weights(12, 48), some_inputs(40, 48)
X = X.index_put((torch.tensor([0, 0, 7, 9]), torch.tensor([3, 20, 20, 47])), torch.tensor([40.0, -60.0, 6.0, -6.5]))


def outputs(w, x, threshold):
    """What a layer puts out for x under the method."""
    weight, path = llm_int8(layer_of(w), InputStats(), threshold=threshold, dtype="float32")
    return linear(path(x), weight.dense())


@pytest.mark.parametrize("threshold", [2.0, 6.0, 1e6])
def test_integers_and_outliers_add_up_to_the_product_by_hand(threshold):
    found = outputs(W, X, threshold)
    for ours, values in zip(found.tolist(), X.tolist(), strict=True):
        expected = slow.product(values, W.tolist(), threshold)
        assert ours == pytest.approx(expected, rel=1e-3, abs=5e-3 * max(map(abs, expected)))  # a tie may fall otherwise


def test_outliers_in_floats_save_what_they_would_cost_the_others():
    exact = linear(X, W)
    errors = {threshold: float((outputs(W, X, threshold) - exact)[0].square().sum()) for threshold in (6.0, 1e6)}
    assert errors[6.0] < errors[1e6] / 10


def test_a_vector_is_multiplied_alike_in_any_batch():
    whole = outputs(W, X, 6.0)
    for i, x in enumerate(X):
        torch.testing.assert_close(outputs(W, x[None], 6.0)[0], whole[i], rtol=1e-5, atol=1e-5)


def test_its_weight_is_round_to_nearest_per_channel():
    mask = noise(12, 48, seed=3) > 0
    layer = layer_of(W, mask=mask)
    weight, _ = llm_int8(layer, InputStats())
    assert torch.equal(weight.dense(), rtn(layer, InputStats(), grid=Grid(8)).dense())
    assert (weight.dense()[~mask] == 0).all()


@pytest.mark.parametrize("value", [0.0, 3.0, 100.0])
def test_constant_inputs_and_weights_of_zero_give_numbers(value):
    for w in (W, torch.zeros_like(W)):
        found = outputs(w, torch.full((1, 48), value), 6.0)
        assert torch.allclose(found, linear(torch.full((1, 48), value), w), atol=0.05 * (1 + value))


def test_against_bitsandbytes_vector_by_vector():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    functional = bitsandbytes.functional
    codes, scales, _ = functional.int8_vectorwise_quant(W.half().clone())
    for threshold in (2.0, 6.0):
        ours = outputs(W.half().float(), X.half().float(), threshold)
        for i, x in enumerate(X.half()):
            made, scale, outliers = functional.int8_vectorwise_quant(x[None].clone(), threshold=threshold)
            made[:, outliers] = 0
            integer = functional.int8_linear_matmul(made, codes).float() * scale[:, None] * scales / 127**2
            floats = x[None, outliers].float() @ (codes[:, outliers].float() * scales[:, None] / 127).T
            theirs = (integer + floats)[0]
            torch.testing.assert_close(ours[i], theirs, rtol=2e-3, atol=2e-3 * float(theirs.abs().max()))


# --- recipes --------------------------------------------------------------------------------------


def test_it_owns_the_weight_and_its_input_and_works_on_the_blocks(toy):
    layout = open_layout(resolve(toy("moonshine")))
    assert find("llm_int8").parts == ("base", "input")
    [names] = select(read_recipe({"steps": ["llm_int8"]}), layout).layers
    assert set(names) == {name for name in layout.shapes if ".layers." in name}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["llm_int8", "gptq"], "gptq would overwrite what llm_int8 wrote"),
        (["rtn", "llm_int8"], "llm_int8 would overwrite what rtn wrote"),
        (["activations", "llm_int8"], "llm_int8 would overwrite what activations wrote"),
        (["llm_int8", "activations"], "activations would overwrite what llm_int8 wrote"),
        (["llm_int8", "smoothquant"], "has already fixed"),
        ([{"llm_int8": {"where": "*"}}], r"encoder\.conv1 is a convolution; rtn with activations would work"),
        ([{"llm_int8": {"where": "*embed_positions"}}], "only looked up"),
        ([{"llm_int8": {"threshold": 0}}], "threshold=0"),
    ],
)
def test_what_cannot_work_is_refused(steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), open_layout(resolve(toy("whisper"))))
