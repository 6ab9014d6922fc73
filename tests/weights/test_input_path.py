import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sottovoce.artifact.folder import load_layers, read_artifact, save
from sottovoce.methods.quarot import random_keeping_ones
from sottovoce.numbers.hadamard import random_hadamard
from sottovoce.numbers.rounding import Rounding
from sottovoce.numbers.zeroing import Zeroing
from sottovoce.recognition.target import find_target
from sottovoce.weights.input_path import InputPath, InputPaths, Turn
from sottovoce.weights.path_parts import pack_path, turn_entry, unpack_path
from sottovoce.weights.path_table import FactorEntry, InputEntry, RoundingEntry
from tests.conftest import WRITING
from tests.forgery import rewrite
from tests.methods.samples import noise


def orthogonal(order, seed=0):
    return torch.linalg.qr(noise(order, order, seed=seed))[0].contiguous()


def same(one, other):
    """Whether two paths are equal bit for bit."""
    assert one.zeroing == other.zeroing
    pairs = [(one.divisor, other.divisor)]
    pairs += list(zip(one.turn.factors, other.turn.factors, strict=True)) if one.turn and other.turn else []
    assert (one.turn is None) == (other.turn is None)
    assert (one.rounding is None) == (other.rounding is None)
    if one.rounding and other.rounding:
        for name in ("bits", "per", "symmetric", "threshold"):
            assert getattr(one.rounding, name) == getattr(other.rounding, name)
        pairs += [(one.rounding.scale, other.rounding.scale), (one.rounding.zero_point, other.rounding.zero_point)]
    for mine, theirs in pairs:
        assert (mine is None) == (theirs is None)
        assert mine is None or (mine.shape == theirs.shape and mine.dtype == theirs.dtype and torch.equal(mine, theirs))
    return True


# --- a turn ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("factors", [(24,), (4, 6), (2, 3, 4)])
def test_a_turn_is_a_product_with_its_matrix_and_its_inverse_the_way_back(factors):
    turn = Turn(tuple(orthogonal(order, seed=i) for i, order in enumerate(factors)))
    x = noise(2, 5, 24)
    torch.testing.assert_close(turn(x), x @ turn.matrix, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turn.inverse(turn(x)), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", [192, 288, 384])
def test_a_streams_turn_is_stored_as_two_bits_a_column_and_so_is_the_way_back(order):
    turn = Turn((random_keeping_ones(order, "hadamard", 5),))
    assert turn_entry(turn) == (FactorEntry(order, "hadamard keeping ones"),)
    for each in (turn, turn.inverse):
        entry = InputEntry(turn_entry(each))
        assert entry.turn[0].kind.endswith("hadamard keeping ones")  # a transpose of order 288 is one itself
        parts = pack_path(InputPath(each), entry)
        assert parts["input.turn.0"].shape == (-(-2 * order // 8),)
        assert torch.equal(unpack_path(entry, parts).turn.factors[0], each.factors[0])


@pytest.mark.parametrize("order", [1, 2, 12, 36, 64])
def test_a_hadamard_factor_is_stored_as_a_bit_a_column(order):
    turn = Turn((random_hadamard(order, 3), orthogonal(5), random_hadamard(order, 4).T.contiguous()))
    entry = InputEntry(turn_entry(turn))
    kinds = [factor.kind for factor in entry.turn]
    assert kinds[:2] == ["hadamard", "orthogonal"]
    assert kinds[2] in ("transposed hadamard", "hadamard")  # of order 1 and 2 both
    parts = pack_path(InputPath(turn), entry)
    assert {name: (str(part.dtype), tuple(part.shape)) for name, part in parts.items()} == {
        "input.turn.0": ("torch.uint8", (-(-order // 8),)),
        "input.turn.1": ("torch.float32", (5, 5)),
        "input.turn.2": ("torch.uint8", (-(-order // 8),)),
    }
    assert same(unpack_path(entry, parts), InputPath(turn))


def test_a_factor_that_is_nearly_a_hadamard_matrix_is_stored_whole():
    factor = random_hadamard(8, 0).clone()
    factor[3, 5] += 1e-7
    assert turn_entry(Turn((factor,))) == (FactorEntry(8, "orthogonal"),)
    assert turn_entry(Turn((orthogonal(7),))) == (FactorEntry(7, "orthogonal"),)  # no such order


# --- a path on a module ---------------------------------------------------------------------------


def test_a_path_acts_on_what_a_module_is_given_and_one_that_does_nothing_is_taken_away():
    module, paths, x = nn.Linear(6, 3), InputPaths(), noise(2, 4, 6)
    path = InputPath(Turn((orthogonal(6),)), noise(6).abs() + 0.5, Rounding(4))
    with torch.no_grad():
        plain = module(x)
        paths.set("a", module, path)
        assert torch.equal(module(x), nn.functional.linear(path(x), module.weight, module.bias))
        paths.to("cpu")
        assert torch.equal(module(x), nn.functional.linear(path(x), module.weight, module.bias))
        paths.set("a", module, InputPath())
        assert torch.equal(module(x), plain)
    assert not paths.paths


def test_a_convolutions_channels_are_its_vectors():
    module, paths, x = nn.Conv1d(6, 3, 5, stride=2), InputPaths(), noise(2, 6, 11)
    path = InputPath(Turn((orthogonal(6),)), None, Rounding(4, "channel", scale=torch.linspace(0.1, 1, 6)))
    moved = torch.stack([torch.stack([path(clip[:, i]) for i in range(11)], 1) for clip in x])
    with torch.no_grad():
        expected = module(moved)
        paths.set("a", module, path)
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)


# --- on disk --------------------------------------------------------------------------------------


def with_paths(folder):
    """A model and its layers, with every kind of path that there is."""
    target = find_target(folder)
    model, layers = target.open()
    d = model.module.config.hidden_size
    hadamard, split = Turn((random_hadamard(d, 1),)), Turn((orthogonal(4), random_hadamard(d // 4, 2)))
    names = [name for name, layer in layers.items() if ".layers." in name and layer.inputs == d]
    fixed = {"scale": torch.tensor(0.3), "zero_point": torch.tensor(7.0)}
    each = {"scale": torch.rand(d) + 0.1, "zero_point": torch.randint(0, 16, (d,)).float()}
    layers[names[0]].input = InputPath(hadamard, torch.rand(d) + 0.5, Rounding(4))
    layers[names[1]].input = InputPath(split)
    layers[names[2]].input = InputPath(None, torch.rand(d) + 0.5)
    layers[names[3]].input = InputPath(rounding=Rounding(4, "tensor", False, **fixed))
    layers[names[4]].input = InputPath(hadamard.inverse, None, Rounding(4, "channel", False, **each))
    layers[names[5]].input = InputPath(rounding=Rounding(8, "token", threshold=6.0))
    layers[names[6]].input = InputPath(None, torch.rand(d) + 0.5, Rounding(4, symmetric=False), Zeroing(0.3, 0.25))
    layers["encoder.conv2"].input = InputPath(rounding=Rounding(5, "channel", scale=each["scale"]))
    if model.tied:
        layers["decoder.embed_tokens"].input = InputPath(hadamard, None, Rounding(8))
    cached = [name for name, shape in model.shapes.items() if shape.cached]
    layers[cached[0]].output, layers[cached[3]].output = Rounding(4, symmetric=False), Rounding(8)
    model.set_turn("decoder.layers.0", split)
    model.set_turn("encoder.layers.1", hadamard.inverse)
    for layer in layers.values():
        model.assign(layer)
    return target, model, layers


@pytest.mark.parametrize("name", WRITING)
def test_paths_come_back_bit_for_bit_and_give_the_same_logits(name, toy, clips, tmp_path):
    target, model, layers = with_paths(toy(name))
    artifact = save(tmp_path / "a", model, layers, target.base, [], [])
    assert artifact.predicted_bytes() == artifact.bytes
    loaded, found = load_layers(read_artifact(tmp_path / "a"))
    for layer in layers.values():
        other = found[layer.name]
        assert same(layer.input, other.input), layer.name
        assert (layer.output, layer.kernel, layer.inputs) == (other.output, other.kernel, other.inputs)
    assert set(loaded.turns) == {"decoder.layers.0", "encoder.layers.1"}
    assert all(same(InputPath(turn), InputPath(loaded.turns[at])) for at, turn in model.turns.items())
    assert loaded.cached_roundings == model.cached_roundings
    with torch.no_grad():
        for clip in clips(name):
            ours, theirs = (
                one.module(**{one.module.main_input_name: clip.features}, decoder_input_ids=clip.tokens).logits
                for one in (model, loaded)
            )
            assert torch.equal(ours, theirs)


def test_every_tensor_of_a_file_with_paths_has_one_home(toy, tmp_path):
    target, model, layers = with_paths(toy("moonshine"))
    artifact = save(tmp_path / "a", model, layers, target.base, [], [])
    told = [part.name for entry in artifact.entries for part in entry.parts()] + [spec.name for spec in artifact.rest]
    told += ["model.decoder.layers.0.turn.0", "model.decoder.layers.0.turn.1", "model.encoder.layers.1.turn.0"]
    assert sorted(told) == sorted(load_file(tmp_path / "a" / "model.safetensors"))


def test_an_artifact_without_paths_of_an_older_format_still_loads(toy, tmp_path):
    target = find_target(toy("whisper"))
    model, layers = target.open()
    save(tmp_path / "a", model, layers, target.base, [], [])

    def older(document):
        document["format"] = 2
        assert document.pop("turns") == []
        assert not any({"input", "output"} & set(entry) for entry in document["layers"])

    rewrite(tmp_path / "a", older)
    loaded, _ = load_layers(read_artifact(tmp_path / "a"))
    assert not loaded.paths.paths


def test_a_path_is_told_in_the_table(toy, tmp_path):
    target, model, layers = with_paths(toy("whisper"))
    save(tmp_path / "a", model, layers, target.base, [], [])
    document = json.loads((tmp_path / "a" / "sottovoce.json").read_text())
    told = {entry["name"]: entry["input"] for entry in document["layers"] if "input" in entry}
    assert told["encoder.conv2"] == {"rounding": {"bits": 5, "per": "channel", "symmetric": True}}
    assert told["decoder.embed_tokens"]["turn"] == [{"order": 32, "kind": "hadamard"}]
    assert RoundingEntry(8, "token", True, 6.0).text == "int8 per token float from 6"


@pytest.mark.parametrize("name", ["whisper", "whisper untied"])
def test_a_table_that_is_only_looked_up_has_no_input(name, toy):
    model, layers = find_target(toy(name)).open()
    for looked_up in (name for name, shape in model.shapes.items() if not shape.multiplies):
        layers[looked_up].input = InputPath(rounding=Rounding(8))
        with pytest.raises(ValueError, match="only looked up"):
            model.assign(layers[looked_up])
    assert model.shapes["decoder.embed_tokens"].multiplies == model.tied
    assert not model.shapes["decoder.embed_positions"].multiplies


def test_the_path_of_a_tied_embedding_is_that_of_the_heads_input(toy):
    model, layers = find_target(toy("whisper")).open()
    tokens, x = torch.tensor([[3, 4]]), noise(1, 2, 32)
    looked_up = model.module.model.decoder.embed_tokens(tokens)
    layer = layers["decoder.embed_tokens"]
    layer.input = InputPath(rounding=Rounding(3))
    model.assign(layer)
    assert torch.equal(model.module.model.decoder.embed_tokens(tokens), looked_up)
    assert torch.equal(model.module.proj_out(x), layer.input(x) @ layer.weight.dense().T)


def test_paths_move_with_their_model(toy):
    _, model, _ = with_paths(toy("whisper"))
    before = set(model.paths.paths)
    model.to("meta")
    assert set(model.paths.paths) == before
    for path in model.paths.paths.values():
        tensors = [*(path.turn.factors if path.turn else ()), path.divisor, path.rounding and path.rounding.scale]
        assert {tensor.device.type for tensor in tensors if tensor is not None} <= {"meta"}
    assert model.module.device.type == "meta"
