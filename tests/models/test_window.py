import json

import pytest
import torch

import sottovoce
from sottovoce.compressing.loop import compress_layers
from sottovoce.models.window import shorten
from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from sottovoce.weights.weight import Weight


def opened(toy, name="whisper"):
    return find_target(toy(name)).open()


def test_a_shorter_window_is_the_model_with_fewer_positions(toy):
    model, layers = opened(toy)
    whole, _ = opened(toy)
    shorten(model, layers, 1.0)
    assert model.most_seconds == 1.0
    features = model.features(torch.zeros(8000).numpy())
    assert features.shape[-1] == 100
    table = whole.module.model.encoder.embed_positions.weight
    assert torch.equal(model.module.model.encoder.embed_positions.weight, table[:50])
    assert layers["encoder.embed_positions"].weight.base.shape == (50, 32)
    assert model.shapes["encoder.embed_positions"].rows == 50
    assert model.encode([features]).states.shape[1] == 50
    model.frontend.check_seconds(1.0, "a clip")
    with pytest.raises(ValueError, match="transcribes 1 s at once"):
        model.frontend.check_seconds(1.1, "a clip")


@pytest.mark.parametrize(
    "grid", [Grid(8), Grid(4, 16, symmetric=False), Grid(8, "tensor"), Grid(8, "tensor", symmetric=False)], ids=str
)
def test_the_integers_of_the_first_positions_stay(grid, toy):
    model, layers = opened(toy)
    layer = layers["encoder.embed_positions"]
    layer.weight = Weight(round_to_grid(layer.target, grid))
    before = layer.weight
    shorten(model, layers, 0.5)
    assert torch.equal(layer.weight.base.codes, before.base.codes[:25])
    assert torch.equal(layer.weight.dense(), before.dense()[:25])


@pytest.mark.parametrize("steps", [["rtn", "low_rank"], ["rtn", "low_rank", "quantize_lora"], ["palettize"]], ids=str)
def test_every_part_of_the_first_positions_stays(steps, toy):
    """Tables of values and factors too: they were floats before, whole or not."""
    target = find_target(toy("whisper"))
    ranked = [{"low_rank": {"rank": 2, "metric": "plain"}} if step == "low_rank" else step for step in steps]
    selection = select(read_recipe({"steps": ranked}), target.layout())
    model, layers = target.open()
    compress_layers(model, layers, selection, Material())
    layer = layers["encoder.embed_positions"]
    before = layer.weight
    shorten(model, layers, 0.5)
    assert torch.allclose(layer.weight.dense(), before.dense()[:25], atol=1e-7, rtol=0)
    if "quantize_lora" not in steps:  # whose rounded factors know no rows apart
        assert type(layer.weight.base) is type(before.base)
        assert (layer.weight.low_rank is None) == (before.low_rank is None)


def test_an_export_says_its_window_and_hears_what_the_shortened_model_hears(tmp_path):
    made = sottovoce.export("builtin:whisper", to="safetensors", output=tmp_path / "short", seconds=6)
    assert made.tested.passed
    assert made.tested.same == made.tested.tokens > 0
    assert any("shorter than the one that the model was trained on" in note for note in made.notes)
    layout = find_target(made.folder).layout()
    assert (layout.most_seconds, layout.processor.feature_extractor.chunk_length) == (6.0, 6)
    assert json.loads((made.folder / "config.json").read_text())["max_source_positions"] == 300
    with pytest.raises(ValueError, match="transcribes 6 s at once"):
        layout.frontend.check_seconds(7, "a clip")


@pytest.mark.parametrize(
    ("model", "to", "options", "message"),
    [
        (
            "builtin:whisper",
            "onnx",
            {"seconds": 9},
            "seconds=9: the window of builtin:whisper is 8 s",
        ),
        ("builtin:whisper", "onnx", {"seconds": -1}, "seconds=-1"),
        ("builtin:whisper", "onnx", {"seconds": float("nan")}, "seconds=nan"),
        ("builtin:whisper", "safetensors", {"seconds": 2.34}, "takes whole seconds; 3 would work"),
        ("builtin:moonshine", "onnx", {"seconds": 5}, "builtin:moonshine takes audio of any length"),
        ("builtin:moonshine", "executorch", {"seconds": 0}, "seconds=0: more than 0 would work"),
        ("builtin:whisper", "onnx", {"portable": ["bmm"]}, "leaves no product to portable kernels"),
    ],
)
def test_a_window_or_a_product_that_does_not_fit_is_refused_before_any_work(model, to, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        sottovoce.export(model, to=to, output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
