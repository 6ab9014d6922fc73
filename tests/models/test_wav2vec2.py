"""wav2vec 2.0: the proof that a family without a decoder is one line of FAMILIES. Held to transformers."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCTC, AutoProcessor

import sottovoce
from sottovoce.artifact.folder import load_layers, read_artifact
from sottovoce.exporting import selftest
from sottovoce.models import open_layout, open_model
from sottovoce.models.checkpoint import resolve
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.ctc import collapsed
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.weights.cost import Workload
from tests import toys
from tests.conftest import FRAMES
from tests.reference import cost as reference

every_kind = pytest.mark.parametrize("name", FRAMES)


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, 16_000) for row in read_corpus(speech, need_text=False).utterances]


def transcribed(folder, audio):
    """transformers' own transcripts, each clip alone."""
    module = AutoModelForCTC.from_pretrained(folder, local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    rows = []
    for clip in audio:
        inputs = processor(clip, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.no_grad():
            rows += processor.batch_decode(module(inputs).logits.argmax(-1))
    return rows


# --- what is transcribed --------------------------------------------------------------------------


@every_kind
def test_a_transcript_is_that_of_transformers(name, toy, audio):
    found = sottovoce.load(toy(name)).transcribe_clips(audio)
    assert found == transcribed(toy(name), audio)
    assert len(set(found)) == len(found)


@every_kind
def test_a_transcript_does_not_depend_on_its_batch_or_order(name, toy, audio):
    recognizer = sottovoce.load(toy(name))
    together = recognizer.transcribe_clips(audio)
    assert [recognizer.transcribe_clips(clip) for clip in audio] == together
    assert recognizer.transcribe_clips(audio[::-1]) == together[::-1]


def test_repetitions_are_one_token_and_blanks_none():
    assert collapsed([0, 5, 5, 0, 5, 7, 7, 0, 0, 7], blank=0) == (5, 5, 7, 7)
    assert collapsed([0, 0], blank=0) == ()


def test_letters_are_written_as_the_tokenizer_says(tmp_path):
    folder = toys.write_wav2vec2(tmp_path / "toy")
    frontend = open_layout(resolve(folder)).frontend
    tokens = frontend.text_tokens("Red man")
    assert frontend.text(tokens) == "red man"
    assert frontend.text([1, *tokens, 2, 3]) == "red man"
    settings = folder / "tokenizer_config.json"
    vocabulary = folder / "vocab.json"
    upper = {token.upper() if len(token) == 1 else token: i for token, i in json.loads(vocabulary.read_text()).items()}
    vocabulary.write_text(json.dumps(upper))
    assert open_layout(resolve(folder)).frontend.text(tokens) == "RED MAN"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_lower_case": True}))
    frontend = open_layout(resolve(folder)).frontend
    assert (frontend.text(tokens), frontend.text_tokens("Red man")) == ("red man", tokens)


@every_kind
def test_the_shortest_clip_is_what_the_convolutions_need(name, toy):
    recognizer = sottovoce.load(toy(name))
    least = recognizer.frontend.least_samples
    assert recognizer.engine.model.frames(torch.zeros(1, least)) == 1
    assert recognizer.engine.model.frames(torch.zeros(1, least - 1)) == 0
    assert isinstance(recognizer.transcribe_clips(np.zeros(least, np.float32)), str)
    with pytest.raises(ValueError, match=f"needs at least {least}"):
        recognizer.transcribe_clips(np.zeros(least - 1, np.float32))


# --- structure ------------------------------------------------------------------------------------


@every_kind
def test_layers_are_every_weight_matrix_and_the_folded_one_and_units_hold_each_once(name, toy):
    model = open_model(toy(name))
    stored = load_file(toy(name) / "model.safetensors")
    positions = "encoder.pos_conv_embed.conv"
    matrices = {key for key, w in stored.items() if w.ndim > 1 and positions not in key}
    assert {f"{model.full_name(layer)}.weight" for layer in model.shapes} - matrices == {f"wav2vec2.{positions}.weight"}
    module = AutoModelForCTC.from_pretrained(toy(name), local_files_only=True)
    assert torch.equal(model.find(positions).weight, module.wav2vec2.encoder.pos_conv_embed.conv.weight)
    held = [layer for stack in model.stacks for unit in stack.units for layer in unit.layers]
    assert sorted(held) == sorted(model.shapes)


@every_kind
def test_patterns_and_components_of_a_recipe_choose_its_layers(name, toy):
    layout = find_target(toy(name)).layout()
    for where, count in {
        "encoder.layers.*": 12,
        "attention": 8,
        "mlp": 4,
        "blocks": 12,
        "head": 1,
        "frontend": 5,
        "*.attention.?_proj": 6,
        "encoder": 18,
    }.items():
        selection = select(read_recipe({"steps": [{"rtn": {"where": where, "bits": 8}}]}), layout)
        assert len(selection.layers[0]) == count, where
    with pytest.raises(ValueError, match="matches no layer"):
        select(read_recipe({"steps": [{"rtn": {"where": "decoder.*"}}]}), layout)


@every_kind
def test_the_cost_of_a_model_is_what_a_run_of_it_multiplies(name, toy):
    model = open_model(toy(name))
    samples = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    counted = reference.count_frames(model, samples)
    products = {p.name: p for p in model.products(Workload(seconds=20_000 / 16_000))}
    for layer, shape in model.shapes.items():
        assert products[layer].vectors * shape.rows * shape.columns == counted.macs[layer], layer
        assert products[layer].passes == counted.passes[layer] == 1
    assert sum(p.macs for p in products.values()) == counted.attention_macs


# --- an artifact, an export -----------------------------------------------------------------------


@every_kind
def test_an_artifact_transcribes_as_the_model_that_was_saved(name, toy, speech, audio, tmp_path):
    made = sottovoce.compress(toy(name), recipe={"steps": ["gptq"]}, output=tmp_path / "out", data=speech)
    assert made.calibrations[0]["tokens"] == "none"
    assert made.bytes == made.predicted_bytes() < resolve(toy(name)).bytes / 2
    found = sottovoce.load(tmp_path / "out").transcribe_clips(audio)
    assert found != sottovoce.load(toy(name)).transcribe_clips(audio)
    model, _ = load_layers(read_artifact(tmp_path / "out"))
    assert model.frontend.vocabulary == 32


@pytest.mark.parametrize(
    ("name", "recipe"), [(FRAMES[0], "rtn-w8"), pytest.param(FRAMES[1], None, marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_an_onnx_export_passes_its_self_test_and_transcribes_the_same(name, recipe, toy, audio, tmp_path):
    source = toy(name)
    if recipe:
        source = sottovoce.compress(source, recipe=recipe, output=tmp_path / "out").folder
    made = sottovoce.export(source, to="onnx", output=tmp_path / "onnx", threads=1)
    assert made.tested.passed
    assert {file.name for file in (tmp_path / "onnx").glob("*.onnx")} == {"model.onnx"}
    model, _ = find_target(source).open()
    recognizer = sottovoce.load(tmp_path / "onnx")
    for clip in audio:
        features = recognizer.frontend.features(clip)
        [found] = recognizer.engine.frame_logits(recognizer.engine.encode([features]))
        with torch.no_grad():
            wanted = model.head(model.encode([torch.from_numpy(features)]).states[0]).numpy()
        assert np.linalg.norm(found - wanted) < (0.05 if recipe else 1e-4) * np.linalg.norm(wanted)


@pytest.mark.slow
def test_one_wrong_scale_of_an_export_is_found_in_its_block(toy, tmp_path):
    source = sottovoce.compress(toy(FRAMES[0]), recipe="rtn-w8", output=tmp_path / "out").folder
    made = sottovoce.export(source, to="onnx", output=tmp_path / "onnx", threads=1)
    graph = onnx.load(made.folder / "model.onnx")
    [scale] = [each for each in graph.graph.initializer if ".layers.1.feed_forward.output_dense.scale" in each.name]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 1.5, scale.name))
    onnx.save(graph, made.folder / "model.onnx")
    tested, _ = selftest.run(made.write())
    assert not tested.passed
    assert tested.apart.name == "encoder.layers.1"


@pytest.mark.parametrize("to", ["executorch", "ctranslate2", "ggml", "compressed-tensors", "safetensors"])
def test_a_runtime_that_wants_a_decoder_says_so(to, toy, tmp_path):
    with pytest.raises(ValueError, match=r"takes models with a decoder, and .* has none \(CTC\); onnx takes it"):
        sottovoce.export(toy(FRAMES[0]), to=to, output=tmp_path / "out")


# --- what is refused ------------------------------------------------------------------------------


def test_what_it_cannot_do_is_refused(toy):
    layout = open_layout(resolve(toy(FRAMES[0])))
    with pytest.raises(ValueError, match="takes no language"):
        layout.rules("en")
    with pytest.raises(ValueError, match="can only transcribe"):
        layout.rules(task="translate")
    with pytest.raises(ValueError, match="beam=5: each frame of a CTC model chooses its likeliest token"):
        sottovoce.load(toy(FRAMES[0]), beam=5)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("vocab.json", None, "holds no vocab.json"),
        ("vocab.json", {"eng": {"a": 1}}, "one list for each language"),
        ("vocab.json", {"a": 0, "b": 1}, "has no '<pad>', the blank of CTC"),
        (
            "vocab.json",
            {"<pad>": 40, "a": 5},
            "the number 40, and the head of config.json scores 0 to 31",
        ),
        ("vocab.json", {"<pad>": 0}, "knows special tokens and no text"),
        ("config.json", {"adapter_attn_dim": 16}, "has adapters"),
        ("config.json", {"architectures": ["Wav2Vec2ForPreTraining"]}, "is a Wav2Vec2ForPreTraining, which has no CTC"),
    ],
)
def test_a_folder_that_would_transcribe_wrongly_is_refused(file, changes, message, tmp_path):
    path = toys.write_wav2vec2(tmp_path / "toy", stable=True) / file
    settings = path.with_name("tokenizer_config.json")
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "added_tokens_decoder": {}}))
    if changes is None:
        path.unlink()
    else:
        kept = json.loads(path.read_text()) if file == "config.json" else {}
        path.write_text(json.dumps({**kept, **changes}))
    with pytest.raises(ValueError, match=message):
        find_target(tmp_path / "toy").layout()


def test_the_older_names_of_a_weight_norm_are_read(tmp_path, audio):
    folder = toys.write_wav2vec2(tmp_path / "toy")
    wanted = sottovoce.load(folder).transcribe_clips(audio)
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = load_file(folder / "model.safetensors")
    for new, old in names.items():
        tensors = {name.replace(new, old): tensor.half() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model = open_model(folder)
    assert model.stored_dtypes["wav2vec2.encoder.pos_conv_embed.conv.weight"] == torch.float16
    assert len(sottovoce.load(folder).transcribe_clips(audio)) == len(wanted)


@pytest.mark.parametrize("there", [True, False])
def test_what_only_its_own_training_reads_may_be_there_or_not(there, tmp_path, audio, recwarn):
    # released checkpoints lack it where their config asks for it, and hold it where it does not
    folder = toys.write_wav2vec2(tmp_path / "toy")
    wanted = sottovoce.load(folder).transcribe_clips(audio)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("wav2vec2.masked_spec_embed", None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "mask_time_prob": 0.0 if there else 0.05}))
    more = {"wav2vec2.masked_spec_embed": torch.ones(32)} if there else {}
    save_file({**tensors, **more}, folder / "model.safetensors", {"format": "pt"})
    made = sottovoce.compress(folder, recipe="rtn-w8", output=tmp_path / "out")
    assert "wav2vec2.masked_spec_embed" not in {spec.name for spec in made.rest}
    assert sottovoce.load(folder).transcribe_clips(audio) == wanted
    assert not [warning for warning in recwarn if "beside the model" in str(warning.message)]


def test_fewer_blocks_in_the_config_than_in_the_file_are_refused(tmp_path):
    folder = toys.write_wav2vec2(tmp_path / "toy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ValueError, match=r"holds 16 weights for which the model of its config.json has no place"):
        open_model(folder)


@pytest.mark.parametrize("place", ["special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"])
def test_special_tokens_are_found_where_transformers_finds_them(place, tmp_path, audio):
    folder = toys.write_wav2vec2(tmp_path / "toy")
    wanted = sottovoce.load(folder).transcribe_clips(audio)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    if place == "special_tokens_map.json":
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Wav2Vec2CTCTokenizer"}))
        (folder / place).write_text(json.dumps({**special, "pad_token": "[PAD]"}))
        vocabulary["[PAD]"] = vocabulary.pop("<pad>")
    else:
        moved = {token: vocabulary.pop(token) for token in ("<pad>", "<s>", "</s>")}
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings.pop("added_tokens_decoder", None)
        if place == "added_tokens.json":
            (folder / place).write_text(json.dumps(moved))
        else:
            settings["added_tokens_decoder"] = {str(number): {"content": token} for token, number in moved.items()}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    assert sottovoce.load(folder).transcribe_clips(audio) == wanted


def test_the_word_delimiter_is_written_as_the_settings_say(tmp_path):
    folder = toys.write_wav2vec2(tmp_path / "toy")
    tokens = open_layout(resolve(folder)).frontend.text_tokens("red man")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for changes, text in (
        ({"replace_word_delimiter_char": "_"}, "red_man"),
        ({"word_delimiter_token": None}, "red|man"),
    ):
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **changes}))
        assert open_layout(resolve(folder)).frontend.text(tokens) == text


def test_a_number_of_tokens_to_write_is_refused_where_every_target_writes_none(toy):
    with pytest.raises(ValueError, match="tokens=8 has no effect"):
        sottovoce.bench(toy("wav2vec2"), tokens=8)
