"""An encoder that takes the positions of a clip: the first of the window, and all where a clip fills it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import next_tokens
from sottovoce.measure.inspect import inspect
from sottovoce.models.checkpoint import Checkpoint
from sottovoce.models.frontend import open_frontend
from sottovoce.models.window import leave_out_window, shorten
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.targets.torch import torch_engine
from sottovoce.training.data import Material
from sottovoce.weights.cost import Workload
from tests.float32 import apart_by_sums
from tests.reference import shorten_context as slow
from tests.units import through_units

RATE, WINDOW = 16_000, 32_000  # of a toy, in samples
TYPES = ["whisper", "whisper untied"]


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, RATE) for row in read_corpus(speech, need_text=False).utterances]


@pytest.fixture(scope="module")
def whole(toy):
    return find_target(toy("whisper")).open()[0]


@pytest.fixture
def short(toy):
    def opened(margin=0.0, name="whisper"):
        model, _ = find_target(toy(name)).open()
        leave_out_window(model, margin)
        return model

    return opened


def tone(samples):
    return (0.3 * np.sin(np.arange(samples) * 0.11) * np.linspace(0.2, 1, samples)).astype(np.float32)


# --- against the window ---------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("samples", [WINDOW, WINDOW - 200])
def test_a_clip_that_fills_the_window_is_encoded_as_in_the_whole_window_bit_for_bit(samples, short, whole):
    model, clip = short(), tone(samples)
    features = model.features(clip)
    assert torch.equal(features, whole.features(clip))
    assert torch.equal(model.encode([features]).states, whole.encode([features]).states)
    assert Recognizer.of(model).transcribe_clips(clip) == Recognizer.of(whole).transcribe_clips(clip)


@pytest.mark.parametrize(
    ("samples", "margin", "positions"),
    [(1, 0, 1), (320, 0, 1), (321, 0, 2), (8_000, 0, 25), (8_000, 0.5, 50), (1, 0.1, 6), (31_000, 0.5, 100)],
)
def test_features_are_the_first_frames_of_the_window(samples, margin, positions, short, whole):
    model, clip = short(margin), tone(samples)
    found = model.features(clip)
    assert torch.equal(found, whole.features(clip)[..., : 2 * positions])
    assert model.frames(found) == model.encode([found]).states.shape[1] == positions
    assert model.frontend.features(clip).flags.c_contiguous
    assert model.valid_positions(samples) == whole.valid_positions(samples)  # a margin is silence, and counts nowhere


@torch.no_grad()
@pytest.mark.parametrize("samples", [3_000, 16_000, 25_123])
def test_it_is_the_model_that_was_built_with_so_few_positions(samples, short, whole):
    model, clip = short(), tone(samples)
    features, tokens = model.features(clip), torch.tensor([[1, 5, 9, 20]])
    twin = slow.of_positions(whole.module, -(-samples // 320))
    wanted = twin(input_features=features, decoder_input_ids=tokens, use_cache=False)
    memory = model.encode([features])
    assert torch.equal(memory.states, wanted.encoder_last_hidden_state)
    assert torch.equal(model.head(model.decode(tokens, memory)[0]), wanted.logits)
    assert not torch.allclose(memory.states, whole.encode([whole.features(clip)]).states[:, : memory.states.shape[1]])


@torch.no_grad()
def test_block_by_block_it_is_the_same_from_features_made_before(short, clips):
    model = short()
    for clip in clips("whisper"):
        assert clip.features.shape[-1] == 200
        now = clip.features[..., : 2 * -(-clip.samples // 320)]
        assert torch.equal(model.taken(clip), now)
        assert torch.equal(model.taken(replace(clip, features=now)), now)
        hidden, _ = model.decode(clip.tokens, model.encode([now]))
        assert torch.equal(through_units(model, clip), model.head(hidden))
        assert torch.equal(next_tokens(model, clip), model.head(hidden[0]).double().log_softmax(-1))


# --- in company -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_a_transcript_does_not_depend_on_its_batch_or_its_order(name, short, audio):
    recognizer = Recognizer.of(short(0.1, name))
    alone = [recognizer.transcribe_clips(clip) for clip in audio]
    assert len(set(alone)) > 5
    assert recognizer.transcribe_clips(audio) == alone
    order = np.random.default_rng(0).permutation(len(audio))
    assert recognizer.transcribe_clips([audio[i] for i in order]) == [alone[i] for i in order]


def test_beams_keep_to_their_own_frames(short, audio):
    recognizer = replace(Recognizer.of(short()), beam=3)
    assert recognizer.transcribe_clips(audio) == [recognizer.transcribe_clips(clip) for clip in audio]


@torch.no_grad()
def test_clips_together_are_encoded_and_decoded_as_each_alone(short, audio):
    model = short()
    features = [model.features(clip) for clip in audio]
    apart, together = model.encode(features), model.encode_together(features)
    assert torch.equal(apart.valid, together.valid)
    assert together.valid.sum(1).tolist() == [-(-len(clip) // 320) for clip in audio]
    assert apart_by_sums(together.states[apart.valid], apart.states[apart.valid], model)
    tokens = torch.randint(0, 300, (len(audio), 7), generator=torch.Generator().manual_seed(0))
    cache = model.start_cache()
    first, cache = model.decode(tokens[:, :4], apart, cache)
    later, _ = model.decode(tokens[:, 4:], apart, cache)
    for i, clip in enumerate(features):
        wanted, _ = model.decode(tokens[i : i + 1], model.encode([clip]))
        assert apart_by_sums(torch.cat([first, later], 1)[i], wanted[0], model)


# --- in a recipe and on disk ----------------------------------------------------------------------


def test_what_is_saved_says_it_and_is_loaded_bit_for_bit(toy, short, audio, tmp_path):
    made = sottovoce.compress(toy("whisper"), recipe=steps({"margin_seconds": 0.2}), output=tmp_path / "a")
    assert json.loads((made.folder / "config.json").read_text())["sottovoce"] == {"context_margin_seconds": 0.2}
    assert made.bytes == made.predicted_bytes()
    found = sottovoce.load(made.folder)
    assert open_frontend(find_target(made.folder).checkpoint).short_context
    assert found.transcribe_clips(audio) == Recognizer.of(short(0.2)).transcribe_clips(audio)
    assert found.transcribe_clips(audio) != sottovoce.load(toy("whisper")).transcribe_clips(audio)
    again = sottovoce.compress(made.folder, recipe="rtn-w8", output=tmp_path / "b")
    at_once = sottovoce.compress(
        toy("whisper"), recipe={"steps": [*steps({"margin_seconds": 0.2})["steps"], "rtn"]}, output=tmp_path / "c"
    )
    assert find_target(at_once.folder).frontend.own == find_target(again.folder).frontend.own


def steps(options=None, *later):
    return {"steps": [{"shorten_context": options or {}}, *later]}


def test_later_steps_see_the_short_context(toy, clips, short):
    later = [{"gptq": {"bits": 3}}]
    target = find_target(toy("whisper"))
    model, layers = target.open()
    compress_layers(model, layers, select(read_recipe(steps({}, *later)), target.layout()), Material(clips("whisper")))
    other = short()
    found = other.layers()
    compress_layers(
        other,
        found,
        select(read_recipe({"steps": later}), target.layout()),
        Material([replace(clip, features=other.taken(clip)) for clip in clips("whisper")]),
    )
    wide, wide_layers = target.open()
    compress_layers(
        wide, wide_layers, select(read_recipe({"steps": later}), target.layout()), Material(clips("whisper"))
    )
    for name, layer in layers.items():
        assert torch.equal(layer.weight.dense(), found[name].weight.dense()), name
    assert any(
        not torch.equal(layer.weight.dense(), wide_layers[name].weight.dense()) for name, layer in layers.items()
    )
    assert not target.layout().frontend.short_context  # the target's own is as it was


def test_its_cost_follows_the_clip(toy, tmp_path):
    made = sottovoce.compress(toy("whisper"), recipe=steps(), output=tmp_path / "a")
    quarter, window = Workload(seconds=0.5), Workload(seconds=2)
    of_window = inspect(toy("whisper"), workload=window).cost
    assert inspect(made.folder, workload=window).cost == of_window
    assert inspect(toy("whisper"), workload=quarter).cost == of_window
    products = {p.name: p for p in find_target(made.folder).layout().products(quarter)}
    assert (products["encoder.conv1"].vectors, products["encoder.layers.0.fc1"].vectors) == (50, 25)
    assert products["encoder.layers.0.attention"].macs == 2 * 25 * 25 * 32
    assert products["decoder.layers.0.encoder_attn.k_proj"].vectors == 25


@torch.no_grad()
def test_a_shorter_window_still_bounds_a_short_context(toy, short):
    model = short()
    shorten(model, find_target(toy("whisper")).open()[1], 1.0)
    assert model.encode([model.features(tone(8_000))]).states.shape[1] == 25
    with pytest.raises(ValueError, match="transcribes 1 s at once"):
        model.frontend.check_samples(16_001, "a clip")


@pytest.mark.slow
def test_its_export_takes_any_length_and_passes_its_self_test(toy, audio, tmp_path):
    made = sottovoce.compress(toy("whisper untied"), recipe=steps(), output=tmp_path / "a")
    exported = sottovoce.export(made.folder, to="onnx", output=tmp_path / "onnx", threads=1)
    assert exported.tested.passed
    engine, reference = sottovoce.load(tmp_path / "onnx"), sottovoce.load(made.folder)
    assert engine.transcribe_clips(audio) == reference.transcribe_clips(audio)
    for samples in (1, 400, 700, WINDOW - 1, WINDOW):
        features = [reference.frontend.features(tone(samples))]
        found = engine.engine.outputs(engine.engine.encode(features))["cross.0.key"]
        wanted = torch_engine(reference.engine.model)
        expected = wanted.outputs(wanted.encode(features))["cross.0.key"]
        assert found.shape == expected.shape == (-(-samples // 320), 32)
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


# --- training -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_shortened_trained_rounded_and_exported(toy, lessons, audio, tmp_path):
    trained = {"distill": {"epochs": 2, "batch": 4, "learning_rate": 1e-3, "hidden": 1.0}}
    recipe = steps({}, trained, {"rtn": {"bits": 8}})
    made = sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / "out", train=lessons("whisper"))
    held = [line["held_out"] for line in made.curve() if "held_out" in line]
    assert min(held) < held[0]
    assert sottovoce.export(made.folder, to="onnx", output=tmp_path / "onnx", threads=1).tested.passed


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "recipe", "message"),
    [
        ("moonshine", steps(), "encodes each clip at its own length, and has no window; leave shorten_context out"),
        ("wav2vec2", steps(), "encodes each clip at its own length, and has no window"),
        ("whisper", steps({}, "shorten_context"), "encodes each clip at its own length already"),
        ("whisper", steps({"margin_seconds": 2}), "margin_seconds: 2 fills the window of .*, 2 s, for every clip"),
        (
            "whisper",
            {"steps": ["rtn", "shorten_context"]},
            "changes the structure after rtn.*put shorten_context first",
        ),
        ("whisper", steps({}, "spinquant"), "spinquant learns from transformers' own forward.*quarot would work"),
    ],
)
def test_what_cannot_be_shortened_is_refused_before_a_weight_is_read(name, recipe, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe(recipe), find_target(toy(name)).layout())


def test_a_margin_is_a_time():
    with pytest.raises(ValueError, match=r"margin_seconds=-1: should be greater than or equal to 0"):
        read_recipe(steps({"margin_seconds": -1}))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"context_margin_seconds": -1}, "context_margin_seconds is -1; 0 or more seconds would work"),
        ({"context_margin_seconds": "1"}, "context_margin_seconds is '1'"),
        ({"context_margin_seconds": True}, "context_margin_seconds is True"),
        ({"hop": 2}, "does not know the setting hop of sottovoce"),
        (3, "does not know the setting 3 of sottovoce"),
    ],
)
def test_a_setting_that_is_not_understood_is_refused(own, message, toy, tmp_path):
    made = sottovoce.compress(toy("whisper"), recipe=steps(), output=tmp_path / "a")
    config = json.loads((made.folder / "config.json").read_text())
    (made.folder / "config.json").write_text(json.dumps({**config, "sottovoce": own}))
    with pytest.raises(ValueError, match=message):
        open_frontend(Checkpoint(str(made.folder), made.folder, None))


def test_a_clip_that_is_longer_than_the_window_is_refused_by_name_and_not_cut(short):
    with pytest.raises(ValueError, match=r"clip 0 lasts .* transcribes 2 s at once"):
        Recognizer.of(short()).transcribe_clips([tone(WINDOW + 1)])


@pytest.mark.parametrize("to", ["executorch", "ctranslate2", "ggml", "compressed-tensors", "safetensors"])
def test_a_runtime_that_pads_every_clip_refuses_before_any_work(to, toy, tmp_path):
    message = r"over a whole window .* encodes each clip at its own length \(shorten_context\); onnx takes it"
    with pytest.raises(ValueError, match=message):
        sottovoce.compress(toy("whisper"), recipe={**steps(), "target": to}, output=tmp_path / "a")
    made = sottovoce.compress(toy("whisper"), recipe=steps(), output=tmp_path / "b")
    with pytest.raises(ValueError, match=message):
        sottovoce.export(made.folder, to=to, output=tmp_path / "c")
