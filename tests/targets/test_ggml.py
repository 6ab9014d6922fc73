"""whisper.cpp's model file, read back by hand and held against the artifact's integers."""

from functools import cache

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from sottovoce.recognition.target import find_target
from sottovoce.targets.ggml.accepts import notes, refusals
from sottovoce.targets.ggml.blocks import BLOCK_TYPES, smallest
from sottovoce.targets.ggml.names import POSITIONS, tensor_of
from sottovoce.targets.ggml.run import MODEL
from sottovoce.targets.ggml.write import write
from tests import toys
from tests.targets.ggml_file import read_file
from tests.targets.test_onnx_export import compressed, entries

EIGHT = [{"wanda": {"where": "*.fc1", "sparsity": 0.5}}, {"rtn": {"bits": 8, "where": "!stem"}}]
FOUR = {"bits": 4, "group_size": 32, "where": "!stem"}
VARIANTS = {
    "whisper": {},
    "whisper untied": {"tied": False},
    "narrow": {"ffn_dim": 64},
    "odd": {"d_model": 24, "ffn_dim": 96},
}


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """A toy Whisper in float16, as released checkpoints are, whose MLP is four times as wide as the model."""

    @cache
    def written(name):
        folder = tmp_path_factory.mktemp("wide") / name.replace(" ", "-")
        toys.write_whisper(folder, **{"ffn_dim": 128, **VARIANTS[name]})
        WhisperForConditionalGeneration.from_pretrained(folder).half().save_pretrained(folder)
        return folder

    return written


def read_back(model, layers, folder):
    write(model, layers, folder)
    return read_file(folder / MODEL)


@pytest.mark.parametrize(
    ("steps", "type"),
    [
        (EIGHT, "q8_0"),
        ([{"rtn": {"bits": 6, "group_size": "tensor", "where": "!stem"}}], "q8_0"),
        ([{"rtn": {"bits": 7, "symmetric": False, "where": "!stem"}}], "q8_0"),
        ([{"wanda": {"where": "*.fc2"}}, {"rtn": {**FOUR, "symmetric": False}}], "q5_0"),
        ([{"rtn": {**FOUR, "bits": 5}}], "q5_0"),
        ([{"rtn": FOUR}], "q4_0"),
        ([{"rtn": {**FOUR, "scale_dtype": "bfloat16"}}], "q4_0"),
        ([{"rtn": {**FOUR, "bits": 3, "symmetric": False}}], "q4_0"),
        ([{"hqq": {**FOUR, "symmetric": False, "round_zero": True}}], "q5_0"),
        ([{"rtn": {**FOUR, "where": ["encoder", "!stem"]}}, {"rtn": {"bits": 8, "where": "decoder"}}], "q8_0"),
    ],
)
def test_the_file_holds_the_artifact_s_own_integers(steps, type, wide, clips, tmp_path):
    model, layers = compressed(wide, clips, "whisper", steps)
    assert not refusals(entries(model, layers), ())
    _, _, _, tensors = read_back(model, layers, tmp_path)
    for name in (each for each in layers if layers[each].kind != "conv" and each not in POSITIONS):
        base, mask, found = layers[name].weight.base, layers[name].weight.mask, tensors[tensor_of(name, "weight")]
        zeros = torch.tensor([[float(base.grid.middle)]]) if base.zeros() is None else base.zeros()
        across = base.codes.shape[1] // zeros.shape[1]
        counted = base.codes.float() - torch.broadcast_to(zeros, (len(base.codes), -1)).repeat_interleave(across, 1)
        wanted = counted if mask is None else counted * mask
        assert found.type == type
        assert np.array_equal(found.integers, wanted.numpy()), name
        assert set(found.scales.ravel()) == set(base.scales().numpy().ravel())
        assert np.array_equal(found.dense, layers[name].weight.dense().numpy()), name


def test_what_is_no_product_stays_as_it_is(wide, clips, tmp_path):
    model, layers = compressed(wide, clips, "whisper", EIGHT)
    state = {name.removeprefix("model."): tensor for name, tensor in model.module.state_dict().items()}
    sizes, mel, tokens, tensors = read_back(model, layers, tmp_path)
    assert sizes["ftype"] == 2007
    assert (sizes["audio_state"], sizes["audio_ctx"], sizes["text_ctx"], sizes["mels"]) == (32, 100, 32, 80)
    assert np.array_equal(mel.T, model.processor.feature_extractor.mel_filters.astype(np.float32))
    assert len(tensors) == len(state) - 1  # the tied head is the embedding
    for name, tensor in state.items():
        if name != "proj_out.weight":
            found = tensors[tensor_of(*name.rsplit(".", 1))]
            assert np.array_equal(found.dense.reshape(tensor.shape), tensor.numpy()), name
    assert {name: each.type for name, each in tensors.items() if "conv" in name} == {
        "encoder.conv1.weight": "f16",
        "encoder.conv1.bias": "f32",
        "encoder.conv2.weight": "f16",
        "encoder.conv2.bias": "f32",
    }
    assert tensors["encoder.conv2.bias"].shape == (32, 1)
    assert tensors["decoder.positional_embedding"].type == "f32"
    numbers = model.frontend.text_tokens("the old man")
    assert b"".join(tokens[number] for number in numbers).decode().strip() == "the old man"
    assert len(tokens) == model.processor.tokenizer.eos_token_id


@pytest.mark.parametrize(("exact", "type", "ftype"), [(True, "f16", 1), (False, "f32", 0)])
def test_floats_are_as_narrow_as_holds_them_all(exact, type, ftype, wide, tmp_path):
    model, layers = find_target(wide("whisper")).open()
    if not exact:
        with torch.no_grad():
            model.find("decoder.layers.1.fc2").weight[3, 4] = 1 / 3
    dense = {name: model.find(name).weight.detach().numpy() for name in layers}
    sizes, _, _, tensors = read_back(model, layers, tmp_path)
    assert sizes["ftype"] == ftype
    for name, wanted in dense.items():
        found = tensors[tensor_of(name, "weight")]
        assert found.type == ("f32" if name in POSITIONS else type)
        assert np.array_equal(found.dense, wanted)


def test_a_scale_that_float16_does_not_hold_stops_the_export(wide, clips, tmp_path):
    model, layers = compressed(wide, clips, "whisper", [{"rtn": {**FOUR, "scale_dtype": "bfloat16"}}])
    layers["decoder.layers.1.fc2"].weight.base.scale[0, 0] = 1e30
    with pytest.raises(ValueError, match=r"decoder\.layers\.1\.fc2 has scales that float16 does not hold; scale_dtype"):
        read_back(model, layers, tmp_path)


def test_a_convolution_that_float16_does_not_hold_stops_the_export(wide, clips, tmp_path):
    model, layers = compressed(wide, clips, "whisper", EIGHT)
    with torch.no_grad():
        model.find("encoder.conv2").weight[0, 0, 0] = 1 / 3
    with pytest.raises(ValueError, match=r"encoder\.conv2 has values that float16 does not hold"):
        write(model, layers, tmp_path)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", range(2, 9))
def test_the_smallest_blocks_are_those_that_hold_every_level(bits, symmetric):
    middle = 2 ** (bits - 1)
    zeros = [middle] if symmetric else range(2**bits)
    counted = {level - zero for zero in zeros for level in range(2**bits)}
    fits = [each for each in BLOCK_TYPES if counted <= set(range(-(2 ** (each.bits - 1)), 2 ** (each.bits - 1)))]
    assert smallest(bits, symmetric) == (fits[0] if fits else None)
    assert [each for each in BLOCK_TYPES if each.holds(bits, symmetric)] == fits


@pytest.mark.parametrize(
    ("name", "steps", "reason"),
    [
        ("whisper", [{"rtn": {"bits": 8}}], 'exclude it: where: "!stem"'),
        ("whisper", [{"rtn": {"where": "encoder.layers.*"}}], "it is float and others are integers"),
        ("whisper", [{"rtn": {**FOUR, "group_size": 16}}], "groups of 16: a multiple of 32, or channel, would work"),
        ("whisper", [{"rtn": {**FOUR, "scale_dtype": "float32"}}], "scales in float32: scale_dtype: float16 would"),
        ("whisper", [{"rtn": {"bits": 8, "symmetric": False}}], "asymmetric grid (zero point): 7 bits, or"),
        ("whisper", [{"hqq": {"symmetric": False}}], "fractional zero points"),
        ("whisper", [{"palettize": {"where": "*.fc1"}}, {"rtn": {"where": "!*.fc1"}}], "a table of values"),
        ("whisper", ["rtn", {"low_rank": {"where": "*.fc1", "rank": 2}}], "a low-rank part"),
        ("whisper", ["rtn", {"activations": {"bits": 8, "where": "blocks"}}], "its input is changed at run time"),
        ("whisper", ["rtn", "kv_cache"], "the key-value cache stays float"),
        ("whisper untied", ["rtn"], "an untied head: whisper.cpp's head is always the embedding"),
        ("narrow", [], "64 in an MLP: whisper.cpp takes 4 times 32"),
        ("odd", [{"rtn": {"where": "!stem"}}], "24 inputs are not a multiple of 32"),
    ],
)
def test_what_it_cannot_hold_is_told_layer_by_layer(name, steps, reason, wide, clips):
    model, layers = compressed(wide, clips, "whisper", steps) if name == "whisper" else opened(wide(name), clips, steps)
    refused = refusals(entries(model, layers), ())
    assert any(reason in told for told in refused.values()), refused
    assert set(refused) <= set(layers)


def opened(folder, clips, steps):
    return compressed(lambda _: folder, clips, "whisper", steps) if steps else find_target(folder).open()


def test_moonshine_is_refused(toy):
    refused = refusals(entries(*find_target(toy("moonshine")).open()), ())
    assert "whisper.cpp has no such layer; it runs Whisper only" in refused.values()


def test_coded_convolutions_and_positions_alone_are_floats_there(wide, clips, tmp_path):
    model, layers = compressed(wide, clips, "whisper", [{"rtn": {"bits": 8, "where": "frontend"}}])
    assert not refusals(entries(model, layers), ())
    _, _, _, tensors = read_back(model, layers, tmp_path)
    for name in ("encoder.conv1", "encoder.embed_positions"):
        found = tensors[tensor_of(name, "weight")]
        assert found.type == "f32"
        assert np.array_equal(found.dense.reshape(len(found.dense), -1), layers[name].weight.dense().numpy())


def test_what_is_held_otherwise_is_noted(wide, clips):
    steps = [
        {"wanda": {"where": "*.fc1", "sparsity": 0.5}},
        {"rtn": {**FOUR, "where": "encoder.layers.*"}},
        {"rtn": {"bits": 8, "where": ["decoder", "positions"]}},
    ]
    held = entries(*compressed(wide, clips, "whisper", steps))
    told = " ".join(notes(held))
    for part in (
        "quantized to 8 bits at run time",
        "linears and the embedding are q8_0",
        "12 of the 33 would fit a smaller one",
        "position tables are written as floats",
        "a sparsity mask is written as zeros",
        "a window of 2 s, not 30 and a vocabulary of",
    ):
        assert part in told
    assert len(notes(entries(*find_target(wide("whisper")).open()))) == 1  # window and vocabulary
