import pytest
import torch

from sottovoce.methods.awq import awq, best_scale, output_error
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from tests.methods.divergent import BLOCKS, SEEDS, Planted
from tests.methods.samples import layer_of, seen, some_inputs, some_weights
from tests.methods.samples import output_error as layer_error
from tests.methods.test_smoothquant import AFTER_NORM, AFTER_VALUE, Toy, X, assign, block_of, same_statistics
from tests.reference import clipping as slow
from tests.tiers import one_fast

INPUTS = 24


def statistics(x):
    found = seen(x)
    return found.gram / found.count, found.absolute / found.count


@pytest.mark.parametrize(("bits", "size", "symmetric"), [(2, 8, True), (3, "channel", False), (4, 8, False)])
def test_the_error_that_is_searched_is_that_of_the_slow_one(bits, size, symmetric):
    weights = [some_weights(rows, INPUTS, seed=rows).double() for rows in (3, 5)]
    gram = statistics(some_inputs(100, INPUTS))[0].double()
    s = torch.logspace(-0.5, 0.5, INPUTS).double()
    grid = Grid(bits, size, symmetric, torch.float32)
    expected = slow.awq_error(
        [w.tolist() for w in weights], s.tolist(), gram.tolist(), bits, size, symmetric, torch.float32
    )
    assert output_error(weights, s, gram, grid) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("form", ["activations", "ratio"])
def test_the_scale_is_the_best_of_the_exponents_in_its_form(form):
    weights, grid = [some_weights(16, INPUTS)], Grid(3, 8, symmetric=False)
    gram, activations = statistics(some_inputs(100, INPUTS) * torch.logspace(-1, 1, INPUTS))
    found = best_scale(weights, gram, activations, grid, form, 20)
    tried = []
    for i in range(20):
        s = activations ** (i / 20)
        if form == "ratio":
            groups = weights[0].abs().reshape(16, 3, 8)
            s = s / (groups / groups.amax(-1, keepdim=True)).reshape(16, INPUTS).mean(0) ** (1 - i / 20)
        tried.append(s / (s.max() * s.min()).sqrt())
    errors = [output_error(weights, s, gram, grid) for s in tried]
    assert torch.allclose(found, tried[errors.index(min(errors))], rtol=1e-4)
    assert min(errors) < 0.8 * output_error(weights, torch.ones(INPUTS), gram, grid)


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_with_outlier_channels_is_rounded_better_after_it(bits, seed):
    x = some_inputs(200, INPUTS, seed)
    x[:, [3, 17]] *= 30
    w, grid = some_weights(32, INPUTS, seed), Grid(bits, "channel", symmetric=False)
    gram, activations = statistics(x)
    s = best_scale([w], gram, activations, grid, "activations", 20)
    plain, scaled = layer_of(w), layer_of(w * s)
    for layer, inputs in ((plain, x), (scaled, x / s)):
        layer.weight = rtn(layer, seen(inputs), grid=grid)
    assert layer_error(scaled, x / s) < 0.7 * layer_error(plain, x)
    assert s[[3, 17]].min() > s[[0, 1, 2]].max()


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_the_float_output_is_unchanged_and_the_statistics_are_those_of_a_new_pass(bias):
    torch.manual_seed(0)
    model = Toy(bias)
    block, before, read = block_of(model, AFTER_NORM, AFTER_VALUE), model(X), model.read
    awq(block, grid=Grid(3, "channel"))
    assign(model, block)
    torch.testing.assert_close(model(X), before, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model.read, read, atol=0.1)
    same_statistics(block.stats["mlp_in"], seen(model.read))
    same_statistics(block.stats["fc2_in"], seen(model.inner))


def test_a_channel_that_never_fires_keeps_its_scale():
    weights, grid = [some_weights(16, INPUTS)], Grid(2, "channel")
    x = some_inputs(100, INPUTS) * torch.logspace(-1, 1, INPUTS)
    x[:, 5] = 0
    gram, activations = statistics(x)
    for form in ("activations", "ratio"):
        s = best_scale(weights, gram, activations, grid, form, 20)
        assert s[5] == 1
        assert torch.isfinite(s).all()
        assert (s > 0).all()


def test_where_nothing_helps_nothing_is_scaled():
    gram, activations = torch.zeros(INPUTS, INPUTS), torch.zeros(INPUTS)
    s = best_scale([some_weights(4, INPUTS)], gram, activations, Grid(2), "activations", 20)
    assert torch.equal(s, torch.ones(INPUTS))


@pytest.mark.parametrize(
    ("name", "grid"), one_fast(["whisper", "moonshine"], [{"bits": 3}, {"bits": 2, "group_size": 32}])
)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.slow
def test_planted_outliers_cost_less_at_three_bits_and_two_than_without_it(name, grid, seed):
    planted = Planted(name, calibration=8, test=8)  # a Gram matrix of four clips misleads the search at 2 bits
    options = {**grid, "symmetric": False, "where": BLOCKS}
    plain = planted.divergence([{"rtn": options}], seed=seed)
    ours = planted.divergence([{"awq": options}, {"rtn": options}], seed=seed)
    assert ours < 0.9 * plain, (ours, plain)
