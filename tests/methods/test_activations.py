import pytest
import torch

import sottovoce
from sottovoce.calibration.collect import input_vectors
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.activations import activations
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.numbers.activation_range import SHARES
from sottovoce.numbers.hadamard import random_hadamard
from sottovoce.numbers.rounding import Rounding
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.weights.input_path import InputPath, InputPaths, Turn
from tests.methods.samples import layer_of, noise, some_inputs, some_weights
from tests.reference import rounding as slow

W, X = some_weights(12, 48), some_inputs(150, 48)
STATIC = {"low", "high", "sample"}
every_grid = pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (4, False)])


def seen(x, needs=STATIC):
    stats = InputStats()
    stats.add(x, needs)
    return stats.finish()


def distances(rounded, values):
    """How far each value was moved; where two levels are as near, either is right."""
    return [abs(r - v) for r, v in zip(rounded, values, strict=True)]


def layout(toy, name="whisper"):
    return open_layout(resolve(toy(name)))


# --- ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "symmetric"), [(2, True), (8, True), (5, False)])
def test_per_token_needs_no_data_and_takes_its_scale_from_each_vector(bits, symmetric):
    path = activations(layer_of(W), InputStats(), bits=bits, symmetric=symmetric)
    assert path == InputPath(rounding=Rounding(bits, "token", symmetric))
    for ours, values in zip(path(X).tolist(), X.tolist(), strict=True):
        expected = slow.rounded_vector(values, bits, symmetric)
        assert distances(ours, values) == pytest.approx(distances(expected, values), rel=1e-3, abs=1e-5)


@every_grid
def test_per_tensor_one_scale_spans_all_that_was_seen(bits, symmetric):
    path = activations(layer_of(W), seen(X, {"low", "high"}), bits=bits, per="tensor", symmetric=symmetric)
    assert path.rounding.scale.shape == ()
    expected = slow.rounded(X.flatten().tolist(), float(X.min()), float(X.max()), bits, symmetric)
    assert path(X).flatten().tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@every_grid
def test_per_channel_each_has_the_scale_of_its_own_range(bits, symmetric):
    path = activations(layer_of(W), seen(X, {"low", "high"}), bits=bits, per="channel", symmetric=symmetric)
    assert path.rounding.scale.shape == (48,)
    for ours, values in zip(path(X).T.tolist(), X.T.tolist(), strict=True):
        expected = slow.rounded(values, min(values), max(values), bits, symmetric)
        assert ours == pytest.approx(expected, rel=1e-4, abs=1e-5)


@every_grid
def test_a_percentile_spans_most_of_the_values(bits, symmetric):
    path = activations(
        layer_of(W), seen(X), bits=bits, per="tensor", symmetric=symmetric, range="percentile", percentile=98.0
    )
    values = X.flatten().tolist()
    high = slow.percentile([abs(v) for v in values] if symmetric else values, 98.0 if symmetric else 99.0)
    low = -high if symmetric else slow.percentile(values, 1.0)
    expected = slow.grid(low, high, bits, symmetric)[0]
    assert float(path.rounding.scale) == pytest.approx(expected, rel=1e-4)


@every_grid
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_mse_leaves_the_least_error_of_all_shares_of_the_range(per, bits, symmetric):
    path = activations(layer_of(W), seen(X), bits=bits, per=per, symmetric=symmetric, range="mse")
    error = (path(X) - X).square()
    groups = zip(X.T, error.T, strict=True) if per == "channel" else [(X, error)]
    for values, found in groups:
        low, high = float(values.min()), float(values.max())
        least = slow.least_error(values.flatten().tolist(), low, high, bits, symmetric, SHARES)
        assert float(found.sum()) == pytest.approx(least, rel=1e-3)


def test_an_outlier_costs_a_calibrated_scale_more_than_one_found_for_each_token():
    x = X.clone()
    x[3, 7] = 300.0
    errors = {}
    for per in ("token", "tensor"):
        path = activations(layer_of(W), seen(x), bits=8, per=per)
        errors[per] = float((path(x) - x).square().sum())
    assert errors["token"] < errors["tensor"] / 20


# --- what it keeps --------------------------------------------------------------------------------


def test_a_turn_and_a_divisor_that_are_there_stay():
    layer = layer_of(W)
    layer.input = InputPath(Turn((random_hadamard(48, 0),)), torch.rand(48) + 1)
    path = activations(layer, InputStats())
    assert path.turn is layer.input.turn
    assert path.divisor is layer.input.divisor
    assert path.rounding == Rounding(8)


# --- convolutions ---------------------------------------------------------------------------------


def conv_layer(module):
    return layer_of(module.weight.detach().reshape(len(module.weight), -1), kind="conv")


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("range", ["absmax", "percentile", "mse"])
def test_a_convolutions_windows_are_mapped_to_its_channels(per, range):
    module, x = torch.nn.Conv1d(6, 5, 3, stride=2), noise(1, 6, 201) * torch.logspace(-1, 1, 6)[:, None]
    layer = conv_layer(module)
    layer.kernel = 3
    path = activations(layer, seen(input_vectors(module, x)), per=per, range=range)
    assert path.rounding.scale.shape == ((6,) if per == "channel" else ())
    if range == "absmax":
        most = x[0].abs().amax(1) if per == "channel" else x.abs().max()
        torch.testing.assert_close(path.rounding.scale, most / 127)
    paths = InputPaths()
    paths.set("conv", module, path)
    with torch.no_grad():
        rounded = module(x)
        paths.set("conv", module, InputPath())
        assert (rounded - module(x)).abs().max() < 0.2


def test_a_convolution_finds_one_scale_for_the_whole_clip():
    # one channel, as Moonshine's first: a scale for each sample would round nothing
    module, x = torch.nn.Conv1d(1, 5, 7, stride=2), noise(2, 1, 200) * torch.tensor([1.0, 50.0])[:, None, None]
    path = activations(conv_layer(module), InputStats(), bits=3)
    assert path.rounding == Rounding(3, "clip")
    moved = path(x.transpose(1, 2))
    assert all(len(clip.unique()) <= 7 for clip in moved)
    assert (moved[0].abs().max() - x[0].abs().max()).abs() < 1e-6


# --- degenerate inputs ----------------------------------------------------------------------------


@pytest.mark.parametrize("range", ["absmax", "percentile", "mse"])
@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_a_constant_activation_and_a_single_frame_are_kept(value, symmetric, per, range):
    x = torch.full((1, 48), value)
    path = activations(layer_of(W), seen(x), per=per, symmetric=symmetric, range=range)
    assert torch.allclose(path(x), x, rtol=1e-5, atol=0)
    assert torch.isfinite(path(X)).all()


# --- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"range": "mse"}, "find their range at run time, so range: mse has no effect"),
        ({"percentile": 99.0}, "use no percentile; leave it out, or set range: percentile"),
        ({"per": "tensor", "percentile": 99.0}, "use no percentile"),
        ({"bits": 1}, "bits=1: should be greater than or equal to 2"),
        ({"bits": 9}, "bits=9"),
        ({"per": "row"}, "per='row'"),
        ({"where": "*"}, "works on the input of a layer, and encoder.embed_positions is an embedding"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": [{"activations": options}]}), layout(toy))


def test_needs_are_those_of_the_range():
    def needs(**options):
        return read_recipe({"steps": [{"activations": options}]}).needs

    assert needs() == set()
    assert needs(per="tensor") == {"low", "high"}
    assert needs(per="channel", range="mse") == {"low", "high", "sample"}


@pytest.mark.parametrize("name", ["whisper", "moonshine untied"])
def test_it_works_on_the_blocks_unless_asked(name, toy):
    def names(options):
        return select(read_recipe({"steps": [{"activations": options}]}), layout(toy, name)).layers[0]

    model = layout(toy, name)
    blocks = {layer for layer in model.shapes if ".layers." in layer}
    assert set(names({})) == blocks
    assert set(names({"where": "!decoder.*"})) == {layer for layer in blocks if layer.startswith("encoder.")}
    everything = {layer for layer, shape in model.shapes.items() if shape.multiplies}
    assert set(names({"where": ["*", "!~*embed_positions", "!~decoder.embed_tokens", *wanted(model)]})) == everything
    assert find("activations").where == ("blocks",)
    assert find("gptq").where == ("*",)


def wanted(model):
    return ["decoder.embed_tokens"] if model.tied else []


FIXED = {"activations": {"per": "tensor"}}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["activations", "activations"], "activations would overwrite what activations wrote"),
        ([FIXED, "smoothquant"], "smoothquant rescales or rotates inputs that activations has already"),
        (["activations", "quarot"], "quarot rescales or rotates inputs that activations has already"),
        (["rtn", "activations", "smoothquant"], "smoothquant rescales or rotates weights that rtn has already"),
    ],
)
def test_an_input_is_rounded_once_and_in_its_last_basis(steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), layout(toy))


def test_it_may_come_before_or_after_what_changes_the_weight(toy):
    for steps in (["activations", "gptq"], ["smoothquant", "gptq", "activations"], ["wanda", "activations", "rtn"]):
        select(read_recipe({"steps": steps}), layout(toy))


def test_a_range_found_at_run_time_follows_a_change_of_channels(toy):
    select(read_recipe({"steps": ["activations", "smoothquant"]}), open_layout(resolve(toy("whisper"))))


def test_an_artifact_whose_inputs_are_rounded_is_not_rounded_again(toy, tmp_path):
    sottovoce.compress(toy("whisper"), recipe={"steps": ["activations"]}, output=tmp_path / "a")
    for step in ("activations", "quarot"):
        with pytest.raises(ValueError, match="an earlier compression"):
            sottovoce.compress(tmp_path / "a", recipe={"steps": [step]}, output=tmp_path / "b", data="none")
    both = sottovoce.compress(tmp_path / "a", recipe={"steps": ["rtn"]}, output=tmp_path / "b")
    model, layers = find_target(both.folder).open()
    assert layers["encoder.layers.0.fc1"].steps == ["activations", "rtn"]
    assert model.paths.paths["encoder.layers.0.fc1"].rounding == Rounding(8)
