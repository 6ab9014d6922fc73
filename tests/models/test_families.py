import json
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

import sottovoce
from sottovoce.models import open_layout, open_model
from sottovoce.models.checkpoint import resolve
from sottovoce.models.moonshine import stem_lengths
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from tests import toys
from tests.hub import serve
from tests.tiers import one_fast

VARIANTS = {
    "whisper": (toys.write_whisper, {}),
    "whisper untied": (toys.write_whisper, {"tied": False}),
    "whisper 128 mels": (toys.write_whisper, {"mels": 128}),
    "whisper 3+1 layers": (toys.write_whisper, {"encoder_layers": 3, "decoder_layers": 1}),
    "whisper english": (toys.write_whisper, {"english_only": True}),
    "moonshine": (toys.write_moonshine, {}),
    "moonshine untied": (toys.write_moonshine, {"tied": False}),
    "moonshine 1+3 layers": (toys.write_moonshine, {"encoder_layers": 1, "decoder_layers": 3}),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture
def folder(tmp_path):
    def written(variant, **generation):
        """A toy of its own, some keys of its generation_config.json changed, or removed with None."""
        write, options = VARIANTS[variant]
        made = write(tmp_path / "toy", **options)
        edit(made / "generation_config.json", **generation)
        return made

    return written


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, 16_000) for row in read_corpus(speech, need_text=False).utterances]


def edit(path, **changes):
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def generated(folder, audio, **options):
    """transformers' own transcripts, prompt and all, each clip alone and cut at its end."""
    module = AutoModelForSpeechSeq2Seq.from_pretrained(folder, local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    rows = []
    for clip in audio:
        features = processor(clip, sampling_rate=16_000, return_tensors="pt")
        [row] = module.generate(**features, return_dict_in_generate=True, **options)["sequences"].tolist()
        ends = np.atleast_1d(module.generation_config.eos_token_id)
        rows.append(tuple(row[: next((i for i, token in enumerate(row) if token in ends), len(row))]))
    return rows


def decoded(folder, audio, **options):
    recognizer = sottovoce.load(folder, **options)
    features = [recognizer.frontend.features(clip) for clip in audio]
    return [row.prompt + row.tokens for row in recognizer.decode(features)]


# --- transcripts ----------------------------------------------------------------------------------


@every_variant
def test_greedy_search_is_transformers_generate_token_for_token(variant, folder, audio):
    made = folder(variant)
    assert decoded(made, audio) == generated(made, audio)


@pytest.mark.parametrize(("beam", "variant"), one_fast([2, 4], list(VARIANTS)))
def test_beam_search_is_transformers_generate_token_for_token(variant, beam, folder, audio):
    made = folder(variant)
    rows = decoded(made, audio, beam=beam)
    assert rows == generated(made, audio, num_beams=beam)
    assert rows != decoded(made, audio)


@pytest.mark.parametrize("variant", ["whisper", "moonshine"])
def test_beam_search_with_suppressed_tokens_several_ends_and_a_cap_is_transformers_generate(variant, folder, audio):
    made = folder(variant)
    chosen = [token for row in decoded(made, audio, beam=3) for token in row[4:]]
    often = sorted(set(chosen), key=chosen.count)
    [end] = open_layout(resolve(made)).rules().end
    changes = {"max_length": 9, "eos_token_id": [end, often[-2]]}
    if variant == "whisper":  # its generate alone knows these
        changes |= {"suppress_tokens": [often[-1]], "begin_suppress_tokens": [often[-3], end]}
    made = folder(variant, **changes)
    rows = decoded(made, audio, beam=3)
    assert rows == generated(made, audio, num_beams=3)
    prompt = len(open_layout(resolve(made)).rules().prompt)
    assert len({len(row) for row in rows}) > 1
    assert max(len(row) for row in rows) == prompt + (9 if variant == "whisper" else 8)


@pytest.mark.parametrize(("language", "task"), [("de", "transcribe"), ("german", "translate"), ("English", None)])
def test_whisper_with_a_language_and_a_task_is_transformers_generate(folder, audio, language, task):
    made = folder("whisper")
    options = {"language": language} | ({"task": task} if task else {})
    rows = decoded(made, audio, **options)
    assert rows == generated(made, audio, **options)
    assert len({row[1] for row in rows}) == 1


def test_whisper_detects_the_language_of_each_clip_where_none_is_set(folder, audio):
    made = folder("whisper", language=None)
    # the random model's only opinion would be one language: lift the other's row until they part
    path = made / "model.safetensors"
    tensors = load_file(path)
    language = {token: toys_token(made, token) for token in ("<|en|>", "<|de|>")}
    noise = torch.randn(32, generator=torch.Generator().manual_seed(3))
    table = tensors["model.decoder.embed_tokens.weight"]
    table[language["<|en|>"]], table[language["<|de|>"]] = noise, -noise
    save_file(tensors, path, {"format": "pt"})
    rows = decoded(made, audio)
    assert rows == generated(made, audio)
    assert {row[1] for row in rows} == set(language.values())
    assert decoded(made, audio, beam=2) == generated(made, audio, num_beams=2)


def toys_token(folder, token):
    return AutoProcessor.from_pretrained(folder, local_files_only=True).tokenizer.convert_tokens_to_ids(token)


def test_suppressed_tokens_never_appear_and_those_of_the_beginning_not_first(folder, audio):
    # tokens that the toy chooses often, and first
    rows = decoded(folder("whisper"), audio)
    often = max((t for row in rows for t in row[4:]), key=[t for row in rows for t in row[4:]].count)
    first = next(row[4] for row in rows if len(row) > 4 and row[4] != often)
    end = json.loads((folder("whisper") / "generation_config.json").read_text())["eos_token_id"]
    made = folder("whisper", suppress_tokens=[often], begin_suppress_tokens=[first, end])
    rows = decoded(made, audio)
    assert rows == generated(made, audio)
    assert not any(often in row[4:] for row in rows)
    assert not any(row[4] in (first, end) for row in rows)


@pytest.mark.parametrize(
    ("variant", "generation", "most"),
    [
        ("whisper", {"max_length": 10}, 10),
        ("whisper", {"max_length": 448}, 28),  # 32 positions, 4 of them the prompt's
        ("whisper", {"max_length": None, "max_new_tokens": 7}, 7),
        ("whisper english", {"max_length": 10}, 10),
        ("moonshine", {"max_length": 10}, 9),
        ("moonshine", {"max_length": None, "max_new_tokens": 7}, 7),
    ],
)
def test_the_longest_output_is_what_the_generation_config_says(variant, generation, most, folder, audio):
    made = folder(variant, **generation)
    rows = decoded(made, audio)
    assert rows == generated(made, audio)
    prompt = len(open_layout(resolve(made)).rules().prompt)
    assert open_layout(resolve(made)).rules().most_tokens == most
    assert max(len(row) for row in rows) == prompt + most  # some clip is cut off


@pytest.mark.parametrize("variant", ["whisper", "moonshine"])
def test_any_of_several_end_tokens_ends_a_transcript(variant, folder, audio):
    made = folder(variant)
    [end] = open_layout(resolve(made)).rules().end
    prompt = len(open_layout(resolve(made)).rules().prompt)
    rows = decoded(made, audio)
    other = next(row[prompt + 1] for row in rows if len(row) > prompt + 1)
    edit(made / "generation_config.json", eos_token_id=[end, other])
    cut = decoded(made, audio)
    assert [row[prompt:] for row in cut] == [
        row[prompt : row.index(other, prompt)] if other in row[prompt:] else row[prompt:] for row in rows
    ]
    assert cut != rows


# --- the prompt -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "generation", "options"),
    [
        ("whisper", {}, {}),
        ("whisper", {"task": None}, {}),
        ("whisper", {"language": "de", "task": "translate"}, {}),
        ("whisper", {}, {"language": "german"}),
        ("whisper", {}, {"language": "<|de|>", "task": "translate"}),
        ("whisper", {"language": None, "task": None, "forced_decoder_ids": [[1, 283], [2, 285]]}, {}),
        ("whisper english", {}, {}),
    ],
)
def test_whispers_prompt_is_that_of_transformers(variant, generation, options, folder):
    if "forced_decoder_ids" in generation:
        ids = [toys_token(folder(variant), token) for token in ("<|de|>", "<|translate|>")]
        generation = {**generation, "forced_decoder_ids": [[1, ids[0]], [2, ids[1]]]}
    made = folder(variant, **generation)
    module = AutoModelForSpeechSeq2Seq.from_pretrained(made, local_files_only=True)
    config = module.generation_config
    for key, value in options.items():
        setattr(config, key, value)
    features = torch.zeros(1, 80, 200)
    expected = module._retrieve_init_tokens(features, 1, config, module.config, 200, {})
    assert list(open_layout(resolve(made)).rules(**options).prompt) == expected[0].tolist()


def test_an_unknown_language_or_task_names_the_nearest(folder):
    model = open_layout(resolve(folder("whisper")))
    with pytest.raises(ValueError, match="unknown language 'dee'; did you mean de"):
        model.rules("dee")
    with pytest.raises(ValueError, match="there are: de, en"):
        model.rules("klingon")
    with pytest.raises(ValueError, match="unknown task 'transcribing'; did you mean transcribe"):
        model.rules("en", "transcribing")


@pytest.mark.parametrize(
    ("variant", "options", "message"),
    [
        ("whisper english", {"language": "de"}, "knows English and transcription only"),
        ("whisper english", {"task": "translate"}, "knows English and transcription only"),
        ("moonshine", {"language": "en"}, "takes no language"),
        ("moonshine", {"task": "translate"}, "can only transcribe"),
    ],
)
def test_what_a_model_cannot_do_is_refused(variant, options, message, folder):
    with pytest.raises(ValueError, match=message):
        open_layout(resolve(folder(variant))).rules(**options)


@pytest.mark.parametrize("language", ["en", "English", "en-GB"])
def test_an_english_only_whisper_takes_english(language, folder):
    model = open_layout(resolve(folder("whisper english")))
    assert model.rules(language, "transcribe") == model.rules()


# --- structure ------------------------------------------------------------------------------------


@every_variant
def test_layers_are_every_weight_matrix_and_units_hold_each_once(variant, folder):
    made = folder(variant)
    model = open_layout(resolve(made))
    stored = load_file(made / "model.safetensors")
    matrices = {name for name, w in stored.items() if w.ndim > 1}
    assert {f"{name if name == 'proj_out' else 'model.' + name}.weight" for name in model.shapes} == matrices
    for name, shape in model.shapes.items():
        w = stored[f"{name if name == 'proj_out' else 'model.' + name}.weight"]
        assert (shape.rows, shape.columns) == (len(w), w[0].numel())
    held = [name for stack in model.stacks for unit in stack.units for name in unit.layers]
    assert sorted(held) == sorted(model.shapes)
    blocks = [sum(".layers." in unit.name for unit in stack.units) for stack in model.stacks]
    counted = [int(word) for word in variant.split()[1].split("+")] if "+" in variant else [2, 2]
    assert blocks == counted


@every_variant
def test_a_writer_writes_the_channels_that_its_readers_read(variant, folder):
    model = open_layout(resolve(folder(variant)))
    for site in (site for stack in model.stacks for unit in stack.units for site in unit.sites if site.writer):
        rows = len(model.find(site.writer).weight[site.writer_rows or slice(None)])
        assert {model.shapes[name].columns for name in site.readers} == {rows}, site


def test_128_mels_reach_the_first_convolution(folder, audio):
    model = open_model(folder("whisper 128 mels"))
    assert model.features(audio[0]).shape == (1, 128, 200)
    assert model.shapes["encoder.conv1"].columns == 128 * 3


def test_moonshines_frames_are_those_of_its_convolutions(folder):
    model = open_model(folder("moonshine"))
    encoder = model.module.model.encoder
    for samples in [895, 896, 1278, 1279, 1663, *np.random.default_rng(0).integers(895, 40_000, 8)]:
        with torch.no_grad():
            first = encoder.conv1(torch.zeros(1, 1, samples))
            second = encoder.conv2(first)
            third = encoder.conv3(second)
        assert stem_lengths(int(samples)) == tuple(x.shape[-1] for x in (first, second, third))


# --- what is refused ------------------------------------------------------------------------------


def test_an_unsupported_model_lists_those_that_are(tmp_path, folder):
    made = folder("whisper")
    edit(made / "config.json", model_type="hubert")
    with pytest.raises(ValueError, match="is a 'hubert' model; supported are whisper, moonshine, wav2vec2"):
        find_target(made)


def test_a_clip_longer_than_the_window_is_refused_with_both_lengths(folder):
    recognizer = sottovoce.load(folder("whisper"))
    assert isinstance(recognizer.transcribe_clips(np.zeros(32_000, np.float32)), str)
    with pytest.raises(ValueError, match=r"clip 0 lasts 2\.50 s, and .* transcribes 2 s at once"):
        recognizer.transcribe_clips(np.zeros(40_000, np.float32))


def test_a_clip_too_short_for_moonshine_is_refused_with_what_it_needs(folder):
    recognizer = sottovoce.load(folder("moonshine"))
    assert isinstance(recognizer.transcribe_clips(np.zeros(895, np.float32)), str)
    with pytest.raises(ValueError, match=r"clip 0 has 894 samples, and .* needs at least 895 \(0\.056 s\)"):
        recognizer.transcribe_clips(np.zeros(894, np.float32))


@pytest.mark.parametrize("variant", ["whisper", "moonshine"])
def test_a_clip_that_does_not_fit_stops_a_compression_before_weights_are_read(variant, folder, tmp_path, monkeypatch):
    import soundfile

    samples = 40_000 if variant == "whisper" else 800
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", np.zeros(samples), 16_000)
    made = folder(variant)
    monkeypatch.setattr("sottovoce.models.base.SpeechModel.with_weights", None)
    with pytest.raises(ValueError, match=r"a\.wav (lasts 2\.50 s|has 800 samples)"):
        sottovoce.compress(made, recipe="gptq-w8", output=tmp_path / "out", data=tmp_path / "audio")


@pytest.mark.parametrize("variant", ["whisper", "moonshine"])
def test_a_head_of_its_own_under_a_config_that_ties_it_is_refused(variant, folder, tmp_path):
    made = folder(f"{variant} untied")
    edit(made / "config.json", tie_word_embeddings=True)
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        sottovoce.compress(made, recipe="rtn-w8", output=tmp_path / "out")


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_a_checkpoint_that_stores_its_tied_head_twice_is_tied_all_the_same(name, toy, tmp_path):
    made = shutil.copytree(toy(name), tmp_path / "twice")
    tensors = load_file(made / "model.safetensors")
    tensors["proj_out.weight"] = tensors["model.decoder.embed_tokens.weight"].clone()
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    model, layers = find_target(made).open()
    assert model.tied
    assert "proj_out" not in layers
    artifact = sottovoce.compress(made, recipe="rtn-w8", output=tmp_path / "out")
    assert artifact.bytes == sottovoce.compress(toy(name), recipe="rtn-w8", output=tmp_path / "once").bytes


@pytest.mark.parametrize("variant", ["whisper", "moonshine"])
def test_a_tied_head_that_is_stored_twice_is_one(variant, folder, tmp_path):
    made = folder(variant)
    tensors = load_file(made / "model.safetensors")
    tensors["proj_out.weight"] = tensors["model.decoder.embed_tokens.weight"].clone()
    save_file(tensors, made / "model.safetensors", {"format": "pt"})
    model = open_model(made)
    assert model.tied
    assert "proj_out" not in model.shapes


def test_weights_that_are_missing_or_not_finite_are_refused(folder):
    made = folder("moonshine")
    tensors = load_file(made / "model.safetensors")
    tensors["model.encoder.conv2.weight"][0, 0, 0] = torch.nan
    save_file(tensors, made / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"encoder\.conv2\.weight holds values that are not finite"):
        open_model(made).layers()
    del tensors["model.encoder.conv2.weight"]
    save_file(tensors, made / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights .* first model\.encoder\.conv2\.weight"):
        open_model(made)


def test_a_bias_that_is_not_finite_is_refused_before_it_is_saved(folder, tmp_path):
    made = folder("whisper")
    tensors = load_file(made / "model.safetensors")
    tensors["model.encoder.conv2.bias"][0] = torch.inf
    save_file(tensors, made / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"encoder\.conv2\.bias holds .*not finite"):
        sottovoce.compress(made, recipe="rtn-w8", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- stored dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", ["whisper", "moonshine untied"])
def test_what_is_not_compressed_keeps_its_dtype_and_bits(variant, dtype, folder, tmp_path, audio):
    made = folder(variant)
    stored = {name: w.to(dtype) for name, w in load_file(made / "model.safetensors").items()}
    save_file(stored, made / "model.safetensors", {"format": "pt"})
    recipe = {"steps": [{"rtn": {"where": "*fc1"}}, {"magnitude": {"where": "*fc2"}}]}
    artifact = sottovoce.compress(made, recipe=recipe, output=tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    untouched = {name for name in stored if not name.endswith(("fc1.weight", "fc2.weight"))}
    assert len(untouched) > 40
    for name in untouched:
        assert found[name].dtype == dtype
        assert torch.equal(found[name], stored[name]), name
    assert {found[name].dtype for name in found if name.endswith("fc2.weight.values")} == {dtype}
    assert artifact.predicted_bytes() == artifact.bytes

    again = sottovoce.compress(tmp_path / "out", recipe={"steps": [{"rtn": {"where": "*out_proj"}}]}
                               if variant == "whisper" else {"steps": [{"rtn": {"where": "*o_proj"}}]},
                               output=tmp_path / "again")  # fmt: skip
    twice = load_file(again.folder / "model.safetensors")
    shared = set(found) & set(twice)
    assert len(shared) > 40
    assert all(twice[name].dtype == found[name].dtype and torch.equal(twice[name], found[name]) for name in shared)
    assert sottovoce.load(tmp_path / "out").transcribe_clips(audio[:2])


# --- the hub --------------------------------------------------------------------------------------


def test_an_artifact_of_a_hub_model_records_its_revision(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    old, new = "1" * 40, "2" * 40
    first = folder("moonshine")
    second = toys.write_moonshine(tmp_path / "second", seed=1)
    with serve({"owner/name": {old: first, new: second, "main": new}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        pinned = sottovoce.compress(f"owner/name@{old}", recipe="rtn-w8", output=tmp_path / "a")
        newest = sottovoce.compress("owner/name", recipe="rtn-w8", output=tmp_path / "b")
    assert (pinned.base.model, pinned.base.revision) == ("owner/name", old)
    assert (newest.base.model, newest.base.revision) == ("owner/name", new)
    assert pinned.base.digest == resolve(first).digest != newest.base.digest
    shutil.rmtree(tmp_path / "cache")
    assert sottovoce.load(tmp_path / "a").transcribe_clips(np.zeros(8000, np.float32)) is not None  # it needs no hub
    assert f"`owner/name` at revision `{old}`" in (tmp_path / "a" / "README.md").read_text()
