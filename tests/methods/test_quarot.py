import pytest
import torch

from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import next_tokens
from sottovoce.methods.quarot import random_orthogonal
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from tests import toys
from tests.conftest import WRITING
from tests.methods.divergent import SEEDS, Planted, rtn

OPTIONS = [{}, {"kind": "random", "keys": True}, {"keys": True, "seed": 2}, {"heads": False, "online": False}]
every_toy = pytest.mark.parametrize("name", WRITING)


def turned(folder, options, steps=()):
    target = find_target(folder)
    model, layers = target.open()
    recipe = read_recipe({"steps": [*steps, {"quarot": options}]})
    compress_layers(model, layers, select(recipe, target.layout()), Material())
    return model, layers


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@every_toy
@torch.no_grad()
def test_float_logits_are_as_they_were_and_the_head_stays_tied(name, options, toy, clips):
    before, _ = find_target(toy(name)).open()
    after, _ = turned(toy(name), options)
    assert after.tied == ("untied" not in name)
    for clip in clips(name):
        expected = next_tokens(before, clip)
        assert torch.allclose(next_tokens(after, clip), expected, atol=1e-4, rtol=0)


@every_toy
def test_every_layer_of_the_blocks_changes_and_no_other(name, toy):
    _, before = find_target(toy(name)).open()
    _, after = turned(toy(name), {})
    for layer in after.values():
        changed = not torch.equal(layer.target, before[layer.name].target)
        assert changed == (".layers." in layer.name) == bool(layer.steps)
        assert bool(layer.input) == ("fc2" in layer.name)


def test_rotary_queries_and_keys_change_their_columns_alone(toy):
    # the turn of the columns leaves W W^T as it is once the gain is in W; a turn of the rows would not
    before, layers = find_target(toy("moonshine")).open()
    _, after = turned(toy("moonshine"), {"keys": True})
    for part in ("q_proj", "k_proj"):
        name = f"decoder.layers.0.self_attn.{part}"
        w = layers[name].target * before.find("decoder.layers.0.input_layernorm").weight.detach()
        torch.testing.assert_close(after[name].target @ after[name].target.T, w @ w.T, atol=1e-4, rtol=1e-4)
        name = f"decoder.layers.0.encoder_attn.{part}"
        norm = "decoder.layers.0.post_attention_layernorm" if part == "q_proj" else "encoder.layer_norm"
        w = layers[name].target * before.find(norm).weight.detach()
        assert not torch.allclose(after[name].target @ after[name].target.T, w @ w.T, atol=0.01)


def test_the_constant_that_a_norm_gives_all_keys_cancels_in_softmax(toy, clips):
    # a bias of the norm so large that dropping it anywhere else would be seen
    target = find_target(toy("whisper"))
    before, _ = target.open()
    after, layers = target.open()
    with torch.no_grad():
        for model in (before, after):
            model.find("encoder.layers.0.self_attn_layer_norm").bias.fill_(3.0)
            model.find("encoder.layer_norm").bias.mul_(20)
    recipe = read_recipe({"steps": ["quarot"]})
    compress_layers(after, layers, select(recipe, target.layout()), Material())
    assert after.find("encoder.layers.0.self_attn.k_proj").bias is None
    for clip in clips("whisper"):
        assert torch.allclose(next_tokens(after, clip), next_tokens(before, clip), atol=1e-4, rtol=0)


@torch.no_grad()
def test_smoothing_before_a_turn_and_after_it_leaves_float_logits(toy, clips):
    target = find_target(toy("whisper"))
    before, _ = target.open()
    for steps in (["smoothquant", "quarot"], ["quarot", "smoothquant"]):
        model, layers = target.open()
        selection = select(read_recipe({"steps": steps}), target.layout())
        compress_layers(model, layers, selection, Material(clips("whisper")))
        for clip in clips("whisper"):
            assert torch.allclose(next_tokens(model, clip), next_tokens(before, clip), atol=1e-4, rtol=0)


def test_a_seed_is_a_turn(toy):
    targets = [turned(toy("moonshine"), {"seed": seed})[1]["encoder.layers.0.mlp.fc1"].target for seed in (0, 0, 1)]
    assert torch.equal(targets[0], targets[1])
    assert not torch.allclose(targets[0], targets[2], atol=0.1)


@pytest.mark.parametrize("kind", ["hadamard", "random"])
def test_a_random_orthogonal_matrix_spreads_any_channel(kind):
    q = random_orthogonal(64, kind, seed=0)
    assert torch.allclose(q @ q.T, torch.eye(64), atol=1e-5)
    if kind == "hadamard":
        assert torch.allclose(q.abs(), torch.full((64, 64), 1 / 8))


@pytest.mark.parametrize(
    ("options", "width", "message"),
    [
        ({}, 36, r"self_attn.v_proj has 18 channels to rotate.*kind: random would work"),
        ({"heads": False, "online": False}, 38, r"encoder has 38 channels to rotate"),
    ],
)
def test_a_width_without_a_hadamard_matrix_is_refused_before_the_model_opens(options, width, message, tmp_path):
    layout = find_target(toys.write_moonshine(tmp_path / "toy", hidden_size=width)).layout()
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": [{"quarot": options}]}), layout)
    select(read_recipe({"steps": [{"quarot": {**options, "kind": "random"}}]}), layout)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"quarot": {"where": "encoder.*"}}], "must select every layer of them; it leaves out decoder.layers.0"),
        (["rtn", "quarot"], "has already fixed"),
        (["wanda", "quarot"], "has already fixed"),
        (["quarot", "quarot"], "quarot would rotate the residual stream that quarot has rotated"),
        (["quarot", "distill"], "quarot has rotated; set encoder to 0, or put distill first"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_the_model_opens(steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), find_target(toy("whisper")).layout())


@pytest.mark.parametrize("name", [pytest.param("whisper", marks=pytest.mark.slow), "moonshine"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.slow
def test_planted_outliers_cost_a_turned_model_a_fraction_at_four_bits(name, seed):
    planted = Planted(name)
    plain = planted.divergence([rtn(4)], seed=seed, activation_bits=4)
    ours = planted.divergence([{"quarot": {"seed": seed}}, rtn(4)], seed=seed, activation_bits=4)
    assert ours < 0.5 * plain, (ours, plain)
