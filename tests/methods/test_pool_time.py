"""Frames pooled inside an encoder: by the book, in company, in later steps, on disk and in an export."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce.calibration.influence import block_influence
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.inspect import inspect
from sottovoce.models.checkpoint import Checkpoint
from sottovoce.models.frontend import open_frontend
from sottovoce.models.pooling import Pooling
from sottovoce.models.window import leave_out_window, pool_frames
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.recipe import Recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.targets.torch import torch_engine
from sottovoce.training.data import Material
from sottovoce.weights.cost import Workload
from tests.float32 import apart_by_sums
from tests.methods.samples import noise
from tests.reference import pool_time as slow
from tests.units import through_units

every_way = pytest.mark.parametrize("by", ["mean", "drop"])


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, 16_000) for row in read_corpus(speech, need_text=False).utterances]


@pytest.fixture
def pooling(toy):
    """A toy that pools, at each clip's length or in its window."""

    def opened(*options, short=False):
        model, _ = find_target(toy("whisper")).open()
        pool_frames(model, Pooling(*options))
        if short:
            leave_out_window(model, 0.0)
        return model

    return opened


def tone(samples):
    return (0.3 * np.sin(np.arange(samples) * 0.11)).astype(np.float32)


# --- by the book ----------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize(("frames", "factor"), [(1, 2), (6, 2), (7, 2), (8, 3), (10, 3), (2, 8)])
def test_a_group_becomes_one_and_the_last_may_be_smaller(frames, factor, by):
    pool, given = Pooling(1, factor, by), noise(2, frames, 5)
    made, valid = pool(given)
    assert valid is None
    assert made.shape[1] == pool.frames(frames)
    for clip, found in zip(given.tolist(), made.tolist(), strict=True):
        np.testing.assert_allclose(found, slow.pooled(clip, factor, by), atol=1e-6)


@every_way
def test_padding_has_no_part_in_a_group(by):
    pool, given = Pooling(1, 3, by), noise(3, 8, 4)
    ends = [8, 4, 1]
    valid = torch.arange(8)[None] < torch.tensor(ends)[:, None]
    made, left = pool(given, valid)
    assert left.sum(1).tolist() == [pool.frames(end) for end in ends]
    for clip, end, found, own in zip(given, ends, made, left, strict=True):
        np.testing.assert_allclose(found[own].tolist(), slow.pooled(clip[:end].tolist(), 3, by), atol=1e-6)
    assert torch.isfinite(made).all()


@torch.no_grad()
@every_way
def test_blocks_behind_it_see_fewer_frames_and_those_before_all(by, pooling, toy):
    model, (whole, _) = pooling(1, 3, by), find_target(toy("whisper")).open()
    features = whole.features(tone(20_000))
    encoder = whole.module.model.encoder
    first = encoder(features, output_hidden_states=True).hidden_states[1]
    fewer = torch.tensor([slow.pooled(first[0].tolist(), 3, by)])
    wanted = encoder.layer_norm(encoder.layers[1](fewer, None))
    found = model.encode([features]).states
    assert found.shape[1] == model.frames(features) == 34
    assert apart_by_sums(found, wanted, model)


def test_behind_every_block_it_pools_what_is_left(pooling, toy):
    model, (whole, _) = pooling(2, 2), find_target(toy("whisper")).open()
    features = whole.features(tone(20_000))
    before = torch.nn.Identity()
    layer_norm, whole.module.model.encoder.layer_norm = whole.module.model.encoder.layer_norm, before
    with torch.no_grad():
        raw = whole.encode([features]).states
        wanted = layer_norm(torch.tensor([slow.pooled(raw[0].tolist(), 2, "mean")]))
        assert apart_by_sums(model.encode([features]).states, wanted, model)


# --- in company and in later steps ----------------------------------------------------------------


@pytest.mark.parametrize("short", [False, True])
def test_a_transcript_does_not_depend_on_its_batch(short, pooling, audio):
    recognizer = Recognizer.of(pooling(1, 3, short=short))
    alone = [recognizer.transcribe_clips(clip) for clip in audio]
    assert len(set(alone)) > 5
    assert recognizer.transcribe_clips(audio) == alone


@torch.no_grad()
@every_way
def test_clips_together_are_encoded_as_each_alone(by, pooling, audio):
    model = pooling(1, 3, by, short=True)
    features = [model.features(clip) for clip in audio]
    apart, together = model.encode(features), model.encode_together(features)
    assert torch.equal(apart.valid, together.valid)
    assert apart.valid.sum(1).tolist() == [model.frames(clip) for clip in features]
    assert apart_by_sums(together.states[apart.valid], apart.states[apart.valid], model)


@torch.no_grad()
def test_statistics_count_the_frames_that_are_left(pooling, clips):
    seen = {}
    [step] = read_recipe({"steps": ["gptq"]}).steps
    model = pooling(1, 3)
    for clip in clips("whisper"):
        hidden, _ = model.decode(clip.tokens, model.encode([clip.features]))
        assert torch.equal(through_units(model, clip), model.head(hidden))
    layers = model.layers()

    def spy(layer, stats, **options):
        seen[layer.name] = stats.count
        return layer.weight

    spied = Recipe("spied", (replace(step, method=replace(step.method, function=spy)),))
    compress_layers(model, layers, select(spied, model), Material(clips("whisper")))
    frames = [-(-clip.samples // 320) for clip in clips("whisper")]
    fewer = [-(-count // 3) for count in frames]
    assert seen["encoder.layers.0.fc1"] == sum(frames)
    assert seen["encoder.layers.1.fc1"] == seen["decoder.layers.0.encoder_attn.k_proj"] == sum(fewer)
    assert len(block_influence(model, clips("whisper"))) == 4


def test_its_cost_is_that_of_fewer_frames(toy, tmp_path):
    made = sottovoce.compress(toy("whisper"), recipe={"steps": [{"pool_time": {"factor": 4}}]}, output=tmp_path / "a")
    assert made.bytes == made.predicted_bytes()
    work = Workload(seconds=1)
    products = {p.name: p for p in find_target(made.folder).layout().products(work)}
    before = {p.name: p for p in find_target(toy("whisper")).layout().products(work)}
    fewer = {name for name in before if products[name] != before[name]}
    assert {name.split(".")[-1] for name in fewer if "decoder" in name} == {"k_proj", "v_proj", "cross_attention"}
    assert all(name.startswith(("encoder.layers.1", "decoder")) for name in fewer)
    assert products["encoder.layers.0.fc1"].vectors == 100
    assert products["encoder.layers.1.fc1"].vectors == products["decoder.layers.1.encoder_attn.v_proj"].vectors == 25
    assert products["encoder.layers.1.attention"].macs == 2 * 25 * 25 * 32
    assert inspect(made.folder, workload=work).cost.macs < inspect(toy("whisper"), workload=work).cost.macs


def test_blocks_that_are_dropped_before_it_move_it(toy, pooling):
    model = pooling(2, 2)
    model.drop_blocks(["encoder.layers.0"])
    assert model.frontend.own["pool_time"] == {"after": 1, "factor": 2, "by": "mean"}
    assert [unit.name for unit in model.stacks[0].units][2] == "encoder.pool"


# --- on disk and elsewhere ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("steps", [["pool_time"], ["shorten_context", {"pool_time": {"factor": 3}}]], ids=len)
def test_what_is_saved_says_it_and_its_export_passes_its_self_test(steps, toy, audio, tmp_path):
    made = sottovoce.compress(toy("whisper"), recipe={"steps": steps}, output=tmp_path / "a")
    own = json.loads((made.folder / "config.json").read_text())["sottovoce"]
    assert own["pool_time"]["after"] == 1
    reference = sottovoce.load(made.folder)
    assert reference.transcribe_clips(audio) != sottovoce.load(toy("whisper")).transcribe_clips(audio)
    exported = sottovoce.export(made.folder, to="onnx", output=tmp_path / "onnx", threads=1)
    assert exported.tested.passed
    engine, torchs = sottovoce.load(tmp_path / "onnx").engine, torch_engine(reference.engine.model)
    for samples in (1, 700, 1_000, 31_999):
        features = [reference.frontend.features(tone(samples))]
        found, wanted = (each.outputs(each.encode(features))["cross.1.value"] for each in (engine, torchs))
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.slow
def test_pooled_trained_and_rounded(toy, lessons, tmp_path):
    trained = {"distill": {"epochs": 2, "batch": 4, "learning_rate": 1e-3, "encoder": 0}}
    recipe = {"steps": ["shorten_context", "pool_time", trained, "rtn"]}
    made = sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / "out", train=lessons("whisper"))
    held = [line["held_out"] for line in made.curve() if "held_out" in line]
    assert min(held) < held[0]


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("moonshine", ["pool_time"], "cannot pool the frames inside its encoder; a Whisper can"),
        ("wav2vec2", ["pool_time"], "cannot pool the frames inside its encoder"),
        ("whisper", ["pool_time", "pool_time"], "pools its frames already"),
        ("whisper", [{"pool_time": {"after": 3}}], "after: 3: .* has 2 encoder blocks; 0 to 2 would work"),
        ("whisper", [{"pool_time": {"factor": 1}}], "factor=1: should be greater than or equal to 2"),
        ("whisper", ["rtn", "pool_time"], "put pool_time first"),
        (
            "whisper",
            ["pool_time", "spinquant"],
            r"pools the frames inside its encoder \(pool_time\); quarot would work",
        ),
        ("whisper", ["pool_time", {"distill": {"epochs": 1}}], "encoder: .*set encoder to 0, logits would work"),
        (
            "whisper",
            ["pool_time", {"lora": {"epochs": 1, "hidden": 1}}],
            "encoder and hidden: .*set encoder and hidden to 0",
        ),
    ],
)
def test_what_cannot_be_pooled_is_refused_before_a_weight_is_read(name, steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), find_target(toy(name)).layout())


@pytest.mark.parametrize(
    "found",
    [2, {"after": 1, "factor": 1, "by": "mean"}, {"after": 1, "factor": 2}, {"after": 1, "factor": 2, "by": "max"}],
)
def test_a_setting_that_is_not_understood_is_refused(found, toy, tmp_path):
    made = sottovoce.compress(toy("whisper"), recipe={"steps": ["pool_time"]}, output=tmp_path / "a")
    config = json.loads((made.folder / "config.json").read_text())
    (made.folder / "config.json").write_text(json.dumps({**config, "sottovoce": {"pool_time": found}}))
    with pytest.raises(ValueError, match=r"pool_time is .* would work"):
        open_frontend(Checkpoint(str(made.folder), made.folder, None))


@pytest.mark.parametrize("to", ["executorch", "ctranslate2", "ggml", "compressed-tensors", "safetensors"])
def test_a_runtime_of_whole_windows_refuses_before_any_work(to, toy, tmp_path):
    with pytest.raises(ValueError, match=r"pools the frames inside its encoder \(pool_time\); onnx takes it"):
        sottovoce.compress(toy("whisper"), recipe={"steps": ["pool_time"], "target": to}, output=tmp_path / "a")
