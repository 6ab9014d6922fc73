import pytest
import torch

from sottovoce.blocks.rotation import (
    Place,
    across,
    add_constant,
    attentions,
    factors_of,
    folded,
    inner_readers,
    keeping_ones,
    places,
    turned,
    turned_bias,
    turned_layers,
)
from sottovoce.methods.quarot import random_orthogonal, random_turns
from sottovoce.numbers.rounding import Rounding
from sottovoce.recognition.target import find_target
from sottovoce.weights.input_path import InputPath, Turn
from tests.conftest import WRITING
from tests.methods.samples import noise
from tests.reference import rotation as slow

WIDTHS = [8, 32, 192, 288, 384, 416, 512]
every_toy = pytest.mark.parametrize("name", WRITING)


@pytest.mark.parametrize("kind", ["hadamard", "random"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_streams_turn_is_orthogonal_and_maps_ones_to_ones(width, kind):
    q = keeping_ones(random_orthogonal(width, kind, seed=3))
    ones = torch.ones(width)
    assert torch.allclose(q @ q.T, torch.eye(width), atol=1e-5)
    assert torch.allclose(q @ ones, ones, atol=1e-4)
    assert torch.allclose(ones @ q, ones, atol=1e-4)


@pytest.mark.parametrize("width", WIDTHS[2:])
def test_the_reflection_leaves_a_hadamard_matrix_nearly_flat(width):
    for seed in range(3):
        q = keeping_ones(random_orthogonal(width, "hadamard", seed))
        assert q.abs().max() < 2.5 / width**0.5


def test_a_matrix_that_keeps_ones_is_left_as_it_is():
    assert torch.equal(keeping_ones(torch.eye(12)), torch.eye(12))


def test_a_turn_commutes_with_a_norm_without_gain_and_bias():
    q = keeping_ones(random_orthogonal(32, "hadamard", seed=1))
    x = noise(5, 32) * torch.logspace(-1, 1, 32) + 3
    norm = torch.nn.functional.layer_norm
    torch.testing.assert_close(norm(x @ q, (32,)), norm(x, (32,)) @ q, atol=1e-5, rtol=1e-5)
    wrong = random_orthogonal(32, "hadamard", seed=1)
    assert not torch.allclose(norm(x @ wrong, (32,)), norm(x, (32,)) @ wrong, atol=0.1)


def test_the_mean_is_taken_number_by_number_and_the_readers_give_what_they_gave():
    x, gain, bias = noise(8).tolist(), (1 + 0.3 * noise(8, seed=1)).tolist(), noise(8, seed=2).tolist()
    w, b = noise(6, 8, seed=3), noise(6, seed=4)
    expected = slow.linear(slow.layer_norm(x, gain, bias), w.tolist(), b.tolist())
    q, r = keeping_ones(random_orthogonal(8, "hadamard", 5)), random_orthogonal(2, "random", 6)
    turns = {"stream": Turn((q,)), "heads": Turn((r,))}
    place = Place("stream", "heads")
    ours = turned(w * torch.tensor(gain), place, turns)
    ours_bias = turned_bias(b + w @ torch.tensor(bias), place, turns)
    plain = slow.layer_norm(slow.turn(x, q.tolist()), [1.0] * 8, [0.0] * 8)
    found = slow.linear(plain, ours.tolist(), ours_bias.tolist())
    heads = [part for i in range(0, 6, 2) for part in slow.turn(expected[i : i + 2], r.tolist())]
    assert found == pytest.approx(heads, rel=1e-4, abs=1e-4)


def test_across_turns_each_head_alone():
    turn = Turn((random_orthogonal(4, "hadamard", 0),))
    x = noise(3, 12)
    whole = across(turn, 12)(x)
    for head in range(3):
        columns = slice(4 * head, 4 * head + 4)
        torch.testing.assert_close(whole[:, columns], turn(x[:, columns]))
    assert across(turn, 4) is turn


@pytest.mark.parametrize(("width", "found"), [(1536, (32, 48)), (1152, (32, 36)), (1664, (32, 52)), (2048, (32, 64)),
                                              (64, (8, 8)), (576, (24, 24)), (12, (12,)), (2, (2,))])  # fmt: skip
def test_factors_are_two_hadamard_orders_as_equal_as_can_be(width, found):
    assert tuple(factors_of(width)) == found


@every_toy
def test_all_layers_of_blocks_have_a_place_and_no_others(name, toy):
    model = find_target(toy(name)).layout()
    found = places(model, heads=True, keys=True, online=True)
    assert set(found) == set(turned_layers(model)) == {layer for layer in model.shapes if ".layers." in layer}
    assert {layer for layer, place in found.items() if place.online} == set(inner_readers(model))
    assert len(inner_readers(model)) == 4
    assert all("fc2" in layer for layer in inner_readers(model))


@every_toy
def test_every_place_matches_what_the_layer_reads_and_writes(name, toy):
    model = find_target(toy(name)).layout()
    for layer, place in places(model, heads=True, keys=False, online=False).items():
        stream = layer.partition(".")[0]
        if layer.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj")):
            assert place.reads == "encoder"
        elif layer.endswith(("q_proj", "k_proj", "v_proj", "fc1")):
            assert place.reads == stream
        if layer.endswith(("o_proj", "out_proj")):
            assert place == Place(layer.rpartition(".")[0] + ".v_proj", stream)
        if layer.endswith("fc2"):
            assert place == Place(None, stream)


@pytest.mark.parametrize("name", ["moonshine", "whisper"])
def test_keys_are_turned_where_no_position_turns_them(name, toy):
    model = find_target(toy(name)).layout()
    found = places(model, heads=True, keys=True, online=True)
    for attention in attentions(model):
        rotary = name == "moonshine" and attention.key.endswith("self_attn.k_proj")
        assert attention.rotary == rotary
        expected = None if rotary else attention.key
        assert found[attention.query].writes == found[attention.key].writes == expected


def test_folding_leaves_norms_whose_gains_and_biases_are_in_their_readers(toy):
    model, layers = find_target(toy("whisper")).open()
    start = folded(model, layers)
    assert len(start.norms) == 2 * 2 + 2 * 3 + 1  # two in each encoder block, three in the decoder's, the exit
    assert "decoder.layer_norm" not in start.norms
    name, norm = "decoder.layers.1.encoder_attn.v_proj", model.find("encoder.layer_norm")
    assert torch.equal(start.weights[name], layers[name].target * norm.weight)
    expected = model.find(name).bias + layers[name].target @ norm.bias
    torch.testing.assert_close(start.biases[name], expected)
    assert not any(name.endswith("k_proj") for name in start.biases)


def test_a_constant_for_a_layer_without_a_bias_is_dropped_for_keys_and_refused_else():
    biases = {"q": torch.ones(2)}
    add_constant(biases, "q", torch.ones(2), droppable=False)
    add_constant(biases, "k", torch.ones(2), droppable=True)
    assert biases["q"].tolist() == [2, 2]
    assert set(biases) == {"q"}
    with pytest.raises(ValueError, match="v has no bias to absorb"):
        add_constant(biases, "v", torch.ones(2), droppable=False)


def test_what_is_turned_or_rounded_already_is_refused(toy):
    model, layers = find_target(toy("whisper")).open()
    layers["encoder.layers.0.fc2"].input = InputPath(rounding=Rounding())
    with pytest.raises(ValueError, match=r"encoder.layers.0.fc2 is already rotated, rescaled or quantized"):
        folded(model, layers)
    turns = random_turns(model, "hadamard", 0, heads=False, keys=False, online=False)
    model.set_turn("encoder.layers.0", turns["encoder"])
    with pytest.raises(ValueError, match=r"rotated already, at encoder.layers.0"):
        folded(model, layers)
