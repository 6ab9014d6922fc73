"""Whole toys as ONNX, held against the torch engine."""

from dataclasses import replace

import numpy as np
import pytest

from sottovoce.compressing.loop import compress_layers
from sottovoce.models.base import SpeechModel
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.targets.onnx.accepts import notes, refusals
from sottovoce.targets.onnx.graph import INT8, UINT8
from sottovoce.targets.onnx.layers import parts_of
from sottovoce.targets.onnx.run import OnnxEngine
from sottovoce.targets.onnx.signed import weights
from sottovoce.targets.onnx.write import write
from sottovoce.targets.torch import TorchEngine
from sottovoce.training.data import Material
from sottovoce.weights.packed import entry_of
from tests.tiers import one_fast

EVERYTHING = [  # a basis, a mask, group and whole-row grids, a correction, integer activations
    "smoothquant",
    {"wanda": {"where": "*.fc1", "sparsity": 0.5}},
    {"rtn": {"where": "encoder", "bits": 8, "group_size": "channel", "symmetric": False}},
    {"rtn": {"where": "decoder", "bits": 4, "group_size": 16}},
    {"low_rank": {"where": "*.fc1", "rank": 2}},
    {"activations": {"bits": 8, "where": "blocks"}},
]


def compressed(toy, clips, name, steps):
    target = find_target(toy(name))
    model, layers = target.open()
    recipe = read_recipe({"steps": steps})
    compress_layers(model, layers, select(recipe, target.layout()), Material(clips(name)))
    return model, layers


def entries(model, layers):
    shapes = {name: tuple(model.find(name).weight.shape) for name in layers}
    return [entry_of(layer, f"{SpeechModel.full_name(name)}.weight", shapes[name]) for name, layer in layers.items()]


def logits(engine, features, tokens):
    memory, cache, found = engine.encode([features]), None, []
    for token in tokens[0, :6].tolist():
        told, cache = engine.step(np.array([[token]]), memory, cache)
        found.append(told[0])
    return np.stack(found)


@pytest.mark.parametrize("name", ["whisper untied", pytest.param("moonshine", marks=pytest.mark.slow)])
def test_a_float_model_says_the_same_token_for_token(name, toy, clips, tmp_path):
    target = find_target(toy(name))
    model, layers = target.open()
    reference, _ = target.open()
    write(model, layers, tmp_path)
    engine = OnnxEngine(tmp_path, threads=1)
    features = [clip.features for clip in clips(name)]  # of different lengths
    ours = Recognizer(model.frontend, engine, reference.rules())
    theirs = Recognizer(reference.frontend, TorchEngine(reference), reference.rules())
    assert ours.decode(features) == theirs.decode(features)
    ours, theirs = (replace(recognizer, beam=3) for recognizer in (ours, theirs))
    assert ours.decode(features) == theirs.decode(features)


@pytest.mark.parametrize("name", ["whisper", pytest.param("moonshine untied", marks=pytest.mark.slow)])
def test_a_compressed_model_computes_what_its_parts_say(name, toy, clips, tmp_path):
    model, layers = compressed(toy, clips, name, EVERYTHING)
    held = entries(model, layers)
    assert not refusals(held)
    assert len(notes(held)) == 2  # masks, activations
    clip = clips(name)[0]
    wanted = logits(TorchEngine(model), clip.features, clip.tokens)
    write(model, layers, tmp_path)
    found = logits(OnnxEngine(tmp_path, threads=1), clip.features, clip.tokens)
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


FACTORED = {  # two products in place of one, and integers with factors that are integers too
    "whisper": [
        {"liteasr": {"where": "blocks", "attention": 0.5, "mlp": 0.5, "multiple": 4}},
        {"rtn": {"where": "embeddings", "bits": 8}},
        {"low_rank": {"where": "embeddings", "rank": 4}},
    ],
    "moonshine untied": [
        {"rtn": {"where": "decoder", "bits": 4, "group_size": 16}},
        {"low_rank": {"where": "decoder", "rank": 6}},
        {"liteasr": {"attention": 0.5, "mlp": 0.5, "multiple": 4}},
        {"prune_lora": {"where": "decoder"}},
        {"quantize_lora": {"where": ["decoder", "encoder.blocks"]}},
    ],
}


@pytest.mark.parametrize("name", one_fast(list(FACTORED)))
@pytest.mark.slow
def test_factors_are_in_the_file_and_compute_what_the_artifact_does(name, toy, clips, tmp_path):
    model, layers = compressed(toy, clips, name, FACTORED[name])
    held = entries(model, layers)
    assert not refusals(held)
    clip = clips(name)[0]
    wanted = logits(TorchEngine(model), clip.features, clip.tokens)
    kept = dict(layers)
    write(model, layers, tmp_path)
    found = logits(OnnxEngine(tmp_path, threads=1), clip.features, clip.tokens)
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)
    encoder = (tmp_path / "encoder.onnx").read_bytes()
    factored = [layer for at, layer in kept.items() if at.startswith("encoder") and layer.weight.base is None]
    assert factored
    for layer in factored:
        dense = layer.weight.dense()
        assert not any(form.contiguous().numpy().tobytes() in encoder for form in (dense, dense.T)), layer.name
        assert all(any(form in encoder for form in forms) for forms in parts_of(layer)), layer.name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moonshine", "whisper untied"])
def test_a_core_between_blocks_is_three_products_in_the_file(name, toy, clips, tmp_path):
    steps = [{"armor": {"block_size": 8, "iterations": 1}}, {"low_rank": {"where": "*.fc1", "rank": 4}}]
    model, layers = compressed(toy, clips, name, steps)
    assert not refusals(entries(model, layers))
    clip = clips(name)[0]
    wanted = logits(TorchEngine(model), clip.features, clip.tokens)
    kept = dict(layers)
    write(model, layers, tmp_path)
    found = logits(OnnxEngine(tmp_path, threads=1), clip.features, clip.tokens)
    assert np.linalg.norm(found - wanted) < 1e-4 * np.linalg.norm(wanted)
    encoder = (tmp_path / "encoder.onnx").read_bytes()
    wrapped = [layer for at, layer in kept.items() if at.startswith("encoder") and layer.weight.wrappers]
    assert wrapped
    for layer in wrapped:
        dense, wrappers = layer.weight.dense(), layer.weight.wrappers
        assert not any(in_file(form, encoder) for form in (dense, dense.T)), layer.name
        for part in (layer.weight.masked_base(), wrappers.outer, wrappers.inner):
            assert in_file(part, encoder) or in_file(part.mT, encoder), layer.name


def in_file(tensor, content):
    return tensor.contiguous().numpy().tobytes() in content


@pytest.fixture
def eight_bits(toy, clips, once):
    """A Whisper whose encoder and table have 8 bits, as ONNX."""

    def make(folder):
        folder.mkdir()
        model, layers = compressed(toy, clips, "whisper", [{"rtn": {"where": ["encoder", "embeddings"], "bits": 8}}])
        write(model, layers, folder)

    return once("eight-bits", make)


@pytest.mark.parametrize("exact", [True, False])
def test_the_engine_multiplies_by_signed_bytes_where_they_are_exact(exact, eight_bits, monkeypatch):
    import onnxruntime

    opened, made = [], onnxruntime.InferenceSession
    monkeypatch.setattr("sottovoce.targets.onnx.signed.exact_here", lambda: exact)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda graph, *a, **k: opened.append(graph) or made(graph, *a, **k)
    )
    OnnxEngine(eight_bits, threads=1)
    encoder = opened[0]
    assert {encoder[kind.start] for kind, _ in weights(encoder)} == {INT8 if exact else UINT8}


def test_a_tied_table_lies_in_the_file_once(eight_bits, toy):
    import onnx

    codes = find_target(toy("whisper")).layout().module.proj_out.weight.numel()
    constants = onnx.load(eight_bits / "decoder.onnx").graph.initializer
    assert sum(len(each.raw_data) == codes for each in constants) == 1


@pytest.mark.slow
def test_turned_streams_go_along(toy, clips, tmp_path):
    model, layers = compressed(toy, clips, "whisper", ["quarot", {"rtn": {"where": "blocks", "bits": 8}}])
    assert model.turns
    clip = clips("whisper")[0]
    wanted = logits(TorchEngine(model), clip.features, clip.tokens)
    write(model, layers, tmp_path)
    found = logits(OnnxEngine(tmp_path, threads=1), clip.features, clip.tokens)
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (["palettize"], "palettize"),
        ([{"spqr": {"group_size": 16, "where": "encoder.layers.*", "bits": 3, "symmetric": False}}], "outliers"),
        (["rtn", {"kv_cache": {"bits": 8}}], "the key-value cache stays float"),
        (["llm_int8"], "float outlier columns"),
        (["rtn", {"activations": {"bits": 4, "where": "blocks"}}], "not as int4 per token"),
        (["rtn", {"activations": {"per": "tensor", "where": "blocks"}}], "not as int8 per tensor"),
        ([{"rtn": {"group_size": 8, "where": "blocks"}}], "groups of 8: a multiple of 16"),
        (
            [
                "rtn",
                {"low_rank": {"where": "blocks", "rank": 2}},
                {"quantize_lora": {"where": "blocks", "group_size": 8}},
            ],
            "factors in groups of 8: a multiple of 16",
        ),
        (
            [{"armor": {"block_size": 8, "iterations": 1}}, {"rtn": {"where": "blocks"}}],
            "integers between block-diagonal products (armor): without the rounding it would work",
        ),
    ],
)
def test_what_the_runtime_cannot_hold_is_told_layer_by_layer(steps, reason, toy, clips):
    model, layers = compressed(toy, clips, "whisper", steps)
    refused = refusals(entries(model, layers))
    assert any(reason in told for told in refused.values()), refused
    assert set(refused) <= set(layers)
