"""compressed-tensors, held against the package's own unpacking and against the torch engine."""

import json
import shutil

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import load_file, save_file

import sottovoce
from sottovoce.models.companions import companions
from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.targets.compressed_tensors.accepts import notes, refusals
from sottovoce.targets.compressed_tensors.runtime import CompressedTensors
from sottovoce.targets.compressed_tensors.write import packed, scheme, write
from sottovoce.targets.torch import TorchEngine
from sottovoce.weights.weight import Weight
from tests.targets.test_onnx_export import compressed, entries, logits

SCHEMES = [
    {"wanda": {"where": "*.fc1", "sparsity": 0.5}},
    {"rtn": {"where": "encoder", "bits": 8, "group_size": "channel"}},
    {"rtn": {"where": ["decoder", "!decoder.layers.0.*fc2"], "bits": 4, "group_size": 16, "symmetric": False}},
    {"rtn": {"where": "decoder.layers.0.*fc2", "bits": 3, "group_size": "tensor", "symmetric": False}},
]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("group_size", [16, "channel", "tensor"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_the_package_unpacks_the_very_codes_and_weights(bits, group_size, symmetric, masked):
    noise = torch.Generator().manual_seed(bits)
    w = torch.randn(5, 48, generator=noise)  # no whole number of 32-bit words along rows or columns
    mask = torch.rand(w.shape, generator=noise) > 0.4 if masked else None
    base = round_to_grid(w, Grid(bits, group_size, symmetric))
    held = packed(base, mask)
    held["weight_scale"] = held["weight_scale"].float()  # as a module in float32 receives it
    said = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**scheme(base)))
    assert torch.equal(PackedQuantizationCompressor.decompress(held, said)["weight"], Weight(base, mask).dense())
    assert held["weight_packed"].numel() == 5 * -(-48 * bits // 32)
    made = PackedQuantizationCompressor.compress(
        {
            "weight": Weight(base, mask).dense(),
            "weight_scale": held["weight_scale"],
            "weight_zero_point": None if symmetric else (base.zeros() - base.grid.middle).expand(5, -1).to(torch.int8),
        },
        said,
    )
    assert set(made) == set(held)
    for name in ("weight_packed", "weight_shape", *([] if symmetric else ["weight_zero_point"])):
        assert torch.equal(made[name], held[name]), name


def written(model, layers, folder):
    """The folder with a model in it, and the companions of its checkpoint."""
    for file in companions(model.checkpoint.folder):
        shutil.copyfile(file, folder / file.name)
    write(model, layers, folder)
    return folder


@pytest.mark.parametrize("name", ["whisper", "whisper untied", "moonshine", "moonshine untied"])
def test_transformers_loads_the_same_floats_from_several_schemes(name, toy, clips, tmp_path):
    model, layers = compressed(toy, clips, name, SCHEMES)
    assert not refusals(entries(model, layers), ())
    wanted = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    clip = clips(name)[0]
    said = logits(TorchEngine(model), clip.features, clip.tokens)
    folder = written(model, layers, tmp_path)
    groups = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]
    assert sorted(group["weights"]["num_bits"] for group in groups.values()) == [3, 4, 8]
    engine = CompressedTensors.engine.open(folder, None)
    for key, tensor in engine.model.module.state_dict().items():
        if key in wanted:  # scales stay beside the weights
            assert torch.equal(tensor, wanted[key]), key
    # not bitwise: the order of a product's sums depends on where in memory its tensors lie
    np.testing.assert_allclose(logits(engine, clip.features, clip.tokens), said, rtol=1e-4, atol=1e-4)


def test_the_file_holds_integers_for_linears_and_floats_for_the_rest(toy, clips, tmp_path):
    model, layers = compressed(toy, clips, "whisper untied", [{"rtn": {"bits": 8}}])
    folder = written(model, layers, tmp_path)
    held = load_file(folder / "model.safetensors")
    kinds = {layers[key.removeprefix("model.").rsplit(".", 1)[0]].kind for key in held if key.endswith("_packed")}
    assert kinds == {"linear"}
    for name, layer in layers.items():
        own = name if name == "proj_out" else f"model.{name}"
        if layer.kind == "linear":
            assert held[f"{own}.weight_packed"].nbytes == layer.weight.base.codes.numel(), name
        else:
            assert held[f"{own}.weight"].is_floating_point(), name
    [told] = notes(entries(model, layers))
    floats = sum(layer.target.nbytes for layer in layers.values() if layer.kind != "linear")
    assert f"are written as floats, which is all that transformers loads there: {floats / 1e6:.2f} MB" in told


def test_an_export_says_token_for_token_what_its_artifact_says(tmp_path):
    from transformers import AutoModelForSpeechSeq2Seq

    artifact = sottovoce.compress("builtin:moonshine", recipe="rtn-w8", output=tmp_path / "artifact").folder
    made = sottovoce.export(artifact, to="compressed-tensors", output=tmp_path / "out", threads=1)
    assert made.tested.passed
    assert made.tested.same == made.tested.tokens
    assert made.tested.worst.allowed == CompressedTensors.engine.tolerance
    loaded = AutoModelForSpeechSeq2Seq.from_pretrained(made.folder, dtype="float32")
    heard = loaded.generate(torch.zeros(1, 16000), max_new_tokens=2)  # asks the encoder alone first
    assert heard.shape[0] == 1


def test_a_tensor_that_is_not_there_is_no_engine(toy, clips, tmp_path):
    model, layers = compressed(toy, clips, "whisper", [{"rtn": {"bits": 8}}])
    folder = written(model, layers, tmp_path)
    file = folder / "model.safetensors"
    held = load_file(file)
    del held["model.encoder.layers.0.fc1.weight_packed"]
    save_file(held, file, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match=r"missing keys, first model\.encoder\.layers\.0\.fc1\.weight"):
        CompressedTensors.engine.open(folder, None)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (["palettize"], "a table of values"),
        ([{"spqr": {"group_size": 16, "where": "encoder.layers.*", "bits": 3, "symmetric": False}}], "outliers"),
        ([{"hqq": {"bits": 4, "group_size": 16, "symmetric": False, "where": "blocks"}}], "fractional zero points"),
        (["rtn", {"low_rank": {"where": "*.fc1", "rank": 2}}], "a low-rank part"),
        (["rtn", "activations"], "its input is changed at run time"),
        (["rtn", "kv_cache"], "the key-value cache stays float"),
        (["quarot", "rtn"], "its input is changed at run time"),
        ([{"rtn": {"where": "embeddings"}}], "nothing to pack; --to safetensors"),
    ],
)
def test_what_the_format_cannot_say_is_told_layer_by_layer(steps, reason, toy, clips):
    model, layers = compressed(toy, clips, "whisper", steps)
    refused = refusals(entries(model, layers), ())
    assert any(reason in told for told in refused.values()), refused
    assert set(refused) <= set(layers)


def test_what_is_held_but_not_by_all_or_not_as_small_is_noted(toy, clips):
    model, layers = compressed(toy, clips, "whisper", SCHEMES)
    told = notes(entries(model, layers))
    assert [line.split(":")[0].split(",")[0] for line in told] == [
        "5 embeddings and convolutions are written as floats",
        "a sparsity mask is written as zeros",
        "transformers loads codes of 3 bits",
    ]
