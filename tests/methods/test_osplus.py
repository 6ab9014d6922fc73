import pytest
import torch
from torch import nn

from sottovoce.blocks.basis import Block
from sottovoce.calibration.statistics import InputStats
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import next_tokens
from sottovoce.methods.osplus import best_scale, osplus, rounded
from sottovoce.models.structure import Site
from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.numbers.rounding import Rounding
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from tests.conftest import WRITING
from tests.methods.divergent import BLOCKS, SEEDS, Planted, rtn
from tests.methods.samples import layer_of, noise
from tests.reference import osplus as slow

WIDTH = 8
SITE = Site("in", ("q", "k"), "norm", component="mlp")
NEEDS = {"gram", "absmax", "absolute", "total", "low", "high", "sample"}
GRID = Grid(4, scale_dtype=torch.float32)
X = noise(40, WIDTH, seed=1) * torch.tensor([1, 1, 1, 9, 1, 1, 0.3, 1]) + torch.tensor([0, 20, 0, 0, 0, -3, 0, 0])


def seen(x):
    stats = InputStats()
    stats.add(x, NEEDS)
    return stats.finish()


class Readers(nn.Module):
    """A norm that only has a gain of 1 and a bias, and two linears of which one may lack a bias."""

    def __init__(self, *, norm_bias=True, key_bias=True):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, bias=norm_bias)
        self.q, self.k = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 6, bias=key_bias)

    def block(self, x=X, indifferent=frozenset()):
        layers = {name: layer_of(getattr(self, name).weight.detach().clone(), name=name) for name in ("q", "k")}
        return Block([SITE], layers, {"in": seen(x)}, self.get_submodule, indifferent)


def test_the_threshold_is_the_one_that_a_search_by_hand_finds():
    w = [0.3 * noise(5, WIDTH, seed=2), 0.3 * noise(4, WIDTH, seed=3)]
    x = X - (X.amax(0) + X.amin(0)) / 2
    magnitude = x.abs().amax(0)
    ours = best_scale(w, x, magnitude, GRID, Rounding(4), candidates=12)
    rows = torch.cat(w).tolist()
    least, expected = slow.best(x.tolist(), rows, magnitude.tolist(), 4, 4, 12)
    assert ours.tolist() == pytest.approx(expected, rel=1e-5)
    found = Rounding(4)(x / ours) @ torch.cat([round_to_grid(part * ours, GRID).dense() for part in w]).T
    assert float((found - x @ torch.cat(w).T).square().sum()) == pytest.approx(least, rel=1e-3)
    assert 1 < ours.max() < 12


def test_only_channels_beyond_the_threshold_are_scaled_and_they_end_at_it():
    model = Readers()
    block = model.block()
    osplus(block, grid=GRID, activation_bits=4)
    stats = block.stats["in"]
    before = (X.amax(0) - X.amin(0)) / 2
    magnitude, s = torch.maximum(stats.high, -stats.low), 1 / model.norm.weight.detach()
    assert (s > 1).any()
    torch.testing.assert_close(magnitude * s, before)
    beyond = s > 1.0001
    torch.testing.assert_close(magnitude[beyond], magnitude.max().expand(int(beyond.sum())))
    assert (magnitude[~beyond] <= magnitude.max() * 1.0001).all()


def test_a_shift_centres_every_channel_and_changes_no_output():
    model = Readers()
    block = model.block()
    before = [(X @ model.q.weight.T + model.q.bias), (X @ model.k.weight.T + model.k.bias)]
    z = (X.amax(0) + X.amin(0)) / 2
    bias = model.norm.bias.detach().clone()
    block.shift(SITE, z)
    torch.testing.assert_close(model.norm.bias, bias - z)
    for layer, expected in zip((model.q, model.k), before, strict=True):
        torch.testing.assert_close((X - z) @ layer.weight.T + layer.bias, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(block.stats["in"].high, -block.stats["in"].low)


def test_the_statistics_after_a_shift_are_those_of_a_new_pass():
    z = noise(WIDTH, seed=7)
    ours, expected = seen(X).shifted(z), seen(X - z)
    for name in ("gram", "square", "absmax", "absolute", "total", "low", "high", "sample"):
        torch.testing.assert_close(getattr(ours, name), getattr(expected, name), rtol=1e-4, atol=2e-3)


def test_a_norm_or_a_reader_without_a_bias_cannot_be_shifted_unless_a_constant_is_nothing_to_it():
    assert not Readers(norm_bias=False).block().can_shift(SITE)
    assert not Readers(key_bias=False).block().can_shift(SITE)
    assert Readers(key_bias=False).block(indifferent={"k"}).can_shift(SITE)
    model = Readers(norm_bias=False)
    osplus(model.block(), grid=GRID, activation_bits=4)
    assert (model.norm.weight < 1).any()


@pytest.mark.parametrize("shift", ["always", "never"])
@pytest.mark.parametrize(
    "x", [torch.zeros(5, WIDTH), torch.ones(3, WIDTH), torch.full((1, WIDTH), -2.0), X[:1]], ids=["0", "1", "-2", "one"]
)
def test_constant_activations_and_a_single_vector_give_finite_weights(x, shift):
    model = Readers()
    with torch.no_grad():
        model.q.weight.zero_()
    block = model.block(x)
    osplus(block, grid=Grid(4), shift=shift)
    for tensor in (*model.parameters(), *(layer.target for layer in block.layers.values())):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize(("per", "symmetric"), [("token", False), ("tensor", True), ("tensor", False)])
def test_other_activations_find_a_scale_that_is_no_worse_than_none(per, symmetric):
    w, rounding = [0.3 * noise(5, WIDTH, seed=2)], Rounding(4, per, symmetric)
    magnitude = X.abs().amax(0)
    s = best_scale(w, X, magnitude, GRID, rounding, candidates=30)

    def error(s):
        made = rounded(X / s, magnitude / s, rounding) @ round_to_grid(w[0] * s, GRID).dense().T
        return float((made - X @ w[0].T).square().sum())

    assert error(s) < error(torch.ones(WIDTH))


# --- in models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", ["where_possible", "never"])
@pytest.mark.parametrize("name", WRITING)
@torch.no_grad()
def test_float_logits_are_as_they_were_and_the_head_stays_tied(name, shift, toy, clips):
    target = find_target(toy(name))
    before, _ = target.open()
    after, layers = target.open()
    selection = select(read_recipe({"steps": [{"osplus": {"shift": shift, "candidates": 10}}]}), target.layout())
    compress_layers(after, layers, selection, Material(clips(name)))
    assert after.tied == ("untied" not in name)
    norm = "encoder.layers.0.self_attn_layer_norm"
    if name.startswith("whisper"):  # keys have no bias there, and what they would get cancels in softmax
        moved = not torch.equal(after.find(norm).bias * layers_scale(before, after, norm), before.find(norm).bias)
        assert moved == (shift != "never")
    for clip in clips(name):
        expected = next_tokens(before, clip)
        assert torch.allclose(next_tokens(after, clip), expected, atol=1e-4, rtol=0)


def layers_scale(before, after, norm):
    return before.find(norm).weight / after.find(norm).weight


@pytest.mark.parametrize(
    ("name", "where", "message"),
    [
        ("moonshine", "*", r"needs biases that encoder.layers.0.input_layernorm, .* and \d+ more lack"),
        ("whisper untied", "*", r"needs biases that proj_out lack; shift: where_possible would work"),
    ],
)
def test_a_shift_everywhere_is_refused_before_the_model_opens_where_a_bias_is_missing(name, where, message, toy):
    recipe = read_recipe({"steps": [{"osplus": {"shift": "always", "where": where}}]})
    with pytest.raises(ValueError, match=message):
        select(recipe, find_target(toy(name)).layout())
    whisper = find_target(toy("whisper")).layout()
    select(recipe, whisper)


@pytest.mark.parametrize("name", ["whisper", pytest.param("moonshine", marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.slow
def test_planted_outliers_cost_scaled_activations_a_fraction(name, seed):
    planted = Planted(name)
    settings = {"seed": seed, "activation_bits": 8, "after_norms": True}
    plain = planted.divergence([rtn(4)], **settings)
    ours = planted.divergence([{"osplus": {"where": BLOCKS, "candidates": 40}}, rtn(4)], **settings)
    smooth = planted.divergence([{"smoothquant": {"where": BLOCKS}}, rtn(4)], **settings)
    assert max(ours, smooth) < 0.5 * plain, (ours, smooth, plain)
