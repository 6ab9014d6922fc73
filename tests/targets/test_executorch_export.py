"""Small toys as programs, held against the torch engine."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sottovoce.models.bounds import Bounds
from sottovoce.recognition.target import find_target
from sottovoce.targets.executorch.accepts import notes, refusals
from sottovoce.targets.executorch.layers import signed
from sottovoce.targets.executorch.run import PROGRAM, ExecuTorchEngine
from sottovoce.targets.executorch.runtime import ExecuTorch
from sottovoce.targets.executorch.write import least_samples, write
from sottovoce.targets.torch import TorchEngine
from tests import toys
from tests.targets.test_onnx_export import compressed, entries, logits

FOUR = {"bits": 4, "group_size": 32, "scale_dtype": "bfloat16"}
WRITERS = {"whisper": toys.write_whisper, "moonshine": toys.write_moonshine}
STEPS = {
    "whisper": [
        {"wanda": {"where": "*.fc1", "sparsity": 0.5}},
        {"rtn": {"where": "encoder", "bits": 8}},
        {"rtn": {"where": "decoder", **FOUR}},
        {"low_rank": {"where": "*.fc1", "rank": 2}},
        {"activations": {"bits": 8, "where": "blocks"}},
    ],
    "moonshine": ["smoothquant", {"rtn": {"bits": 8}}],
}
SECONDS = 2.0


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A toy of one block each, by its family: every block more is lowered for seconds."""

    def written(name):
        folder = tmp_path_factory.mktemp("small") / name
        return WRITERS[name](folder, encoder_layers=1, decoder_layers=1)

    return written


@pytest.fixture(scope="session")
def programs(small, clips, once):
    """(model, layers, folder) of a family, lowered."""

    def made(name):
        def lower(folder):
            folder.mkdir()
            spent, parts = compressed(small, clips, name, STEPS[name])
            write(spent, parts, folder, Bounds(least_samples(spent), spent.most_seconds or SECONDS))

        model, layers = compressed(small, clips, name, STEPS[name])
        assert not refusals(entries(model, layers))
        return model, layers, once(f"program-{name}", lower)

    return made


@pytest.mark.slow  # lowering takes half a minute; `make slow` is part of what has to pass
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_a_program_computes_what_the_parts_say(name, programs, clips):
    model, _, folder = programs(name)
    for clip in clips(name):  # of different lengths
        wanted = logits(TorchEngine(model), clip.features, clip.tokens)
        found = logits(ExecuTorchEngine(folder, threads=1), clip.features, clip.tokens)
        assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


@pytest.mark.slow
def test_a_cache_is_made_anew_where_it_holds_something_else(programs, clips):
    _, _, folder = programs("whisper")
    first, second = (clip.features for clip in clips("whisper")[:2])
    engine = ExecuTorchEngine(folder, threads=1)
    heard, other = engine.encode([first]), engine.encode([second])

    def fed(*tokens, memory=heard, cache=None):
        return engine.step(np.array([tokens]), memory, cache)

    wanted, held = fed(1, 5, 7)
    fed(1, 5, 9, 4)
    assert np.array_equal(fed(7, cache=[(1, 5)])[0], wanted)
    assert np.array_equal(fed(1, 5, 7)[0], wanted)
    fed(1, 5, memory=other)
    found, again = fed(7, cache=[(1, 5)])
    assert np.array_equal(found, wanted)
    assert again == held == [(1, 5, 7)]


@pytest.mark.slow
def test_a_tied_table_lies_in_the_program_once(programs):
    _, layers, folder = programs("whisper")
    codes = signed(layers["decoder.embed_tokens"].weight.base, None) + 8
    packed = (codes[:, 1::2] << 4 | codes[:, ::2]).to(torch.uint8).numpy().tobytes()
    assert (folder / PROGRAM).read_bytes().count(packed) == 1


@pytest.mark.slow
def test_a_program_that_is_damaged_is_not_opened(programs, tmp_path):
    _, _, folder = programs("whisper")
    (tmp_path / PROGRAM).write_bytes((folder / PROGRAM).read_bytes()[:4096])
    with pytest.raises(RuntimeError):
        ExecuTorchEngine(tmp_path)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (["palettize"], "palettize"),
        ([{"spqr": {"group_size": 16, "where": "encoder.layers.*", "bits": 3, "symmetric": False}}], "outliers"),
        (["rtn", {"kv_cache": {"bits": 8}}], "the key-value cache stays float"),
        (["llm_int8"], "float outlier columns"),
        (["rtn", {"activations": {"bits": 4, "where": "blocks"}}], "not as int4 per token"),
        ([{"rtn": {**FOUR, "group_size": 16}}], "groups of 16: a multiple of 32"),
        ([{"rtn": {**FOUR, "scale_dtype": "float16"}}], "scales of groups in float16: scale_dtype: bfloat16"),
        ([{"rtn": {**FOUR, "bits": 8}}], "8 bits in groups of 32: a scale for each row"),
        ([{"rtn": {"symmetric": False}}], "asymmetric grid"),
        ([{"hqq": {"symmetric": False}}], "fractional zero points"),
        (
            [{"liteasr": {"mlp": 0.5, "multiple": 4}}, {"quantize_lora": {"where": "encoder.blocks"}}],
            "quantized low-rank factors (quantize_lora) have no operator",
        ),
        ([{"armor": {"block_size": 8, "iterations": 1}}], "block-diagonal products before and behind a weight (armor)"),
    ],
)
def test_what_xnnpack_cannot_hold_is_told_layer_by_layer(steps, reason, toy, clips):
    model, layers = compressed(toy, clips, "whisper", steps)
    refused = refusals(entries(model, layers))
    assert any(reason in told for told in refused.values()), refused
    assert set(refused) <= set(layers)


def test_a_table_that_is_only_looked_up_may_have_zeros_of_its_own(toy, clips):
    steps = [{"rtn": {"where": "embeddings", "bits": 8, "symmetric": False}}]
    assert not refusals(entries(*compressed(toy, clips, "whisper untied", steps)))
    assert refusals(entries(*compressed(toy, clips, "whisper", steps)))


def test_what_is_held_otherwise_is_noted(toy, clips):
    steps = [{"rtn": {"bits": 3, "where": "*.fc1"}}, {"wanda": {"where": "*.fc2"}}]
    held = entries(*compressed(toy, clips, "whisper", steps))
    told = " ".join(notes([*held, replace(held[0], dtype="float16")]))
    for part in (
        "quantized to 8 bits",
        "a sparsity mask is written as zeros",
        "codes of 3 bits",
        "float layers are written as float32",
    ):
        assert part in told


def test_a_model_of_any_length_is_bounded_and_one_with_a_window_is_not(toy):
    from sottovoce.targets.base import WriteOptions

    moonshine, whisper = (find_target(toy(name)).layout() for name in ("moonshine", "whisper"))
    assert ExecuTorch().bounds(moonshine, WriteOptions(seconds=5.0)).most_seconds == 5
    assert ExecuTorch().bounds(moonshine, WriteOptions()).most_seconds == 30
    assert ExecuTorch().bounds(whisper, WriteOptions()).most_seconds == whisper.most_seconds
    moonshine.frontend.runtime_bounds = ExecuTorch().bounds(moonshine, WriteOptions(seconds=5.0))
    with pytest.raises(ValueError, match=r"lasts 5.10 s, and .* transcribes 5 s at once"):
        moonshine.frontend.check_seconds(5.1, "a clip")
    with pytest.raises(ValueError, match="needs at least"):
        moonshine.frontend.check_samples(1000, "a clip")
