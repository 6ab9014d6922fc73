"""A checkpoint's folder as trainers and tools leave it: what is missing or does not fit is said before the work."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import sottovoce
from sottovoce.models.checkpoint import resolve
from sottovoce.models.companions import companions
from sottovoce.recognition.target import find_target


@pytest.fixture(params=["whisper", "moonshine"])
def folder(request, toy, tmp_path):
    """A toy of each family, to be spoiled."""
    return shutil.copytree(toy(request.param), tmp_path / "spoiled")


@pytest.fixture
def whisper(toy, tmp_path):
    return shutil.copytree(toy("whisper"), tmp_path / "spoiled")


@pytest.fixture
def refused(speech, tmp_path, monkeypatch):
    """Every verb refuses the folder with that message, in one sentence, before any weight is read."""

    def check(folder, message, loads=False):
        if not loads:
            fails = lambda *words, **named: pytest.fail("weights were read")  # noqa: E731
            monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", fails)
        output = tmp_path / "out"
        verbs = {
            "compress": lambda: sottovoce.compress(folder, recipe="rtn-w8", output=output),
            "evaluate": lambda: sottovoce.evaluate(folder, data=speech, output=output),
            "export": lambda: sottovoce.export(folder, to="safetensors", output=output),
            "inspect": lambda: sottovoce.inspect(folder),
            "load": lambda: sottovoce.load(folder),
            "sweep": lambda: sottovoce.sweep(
                {"models": [str(folder)], "data": [str(speech)], "recipes": ["rtn-w8"]}, output=output
            ),
        }
        for name, verb in verbs.items():
            with pytest.raises(ValueError, match=message) as told:
                verb()
            assert "\n" not in str(told.value), name
            assert not output.exists(), name

    return check


def edit(path, **changes):
    """Change keys of a JSON file; None takes one out."""
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


# --- what is missing ------------------------------------------------------------------------------


def test_a_folder_without_a_tokenizer_is_no_model_that_says_nothing(folder, refused):
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    refused(
        folder, r"holds no tokenizer\.json \(nor vocab\.json with merges\.txt, .*copy it from the model that this one"
    )


@pytest.mark.parametrize("left", ["vocab.json", "merges.txt"])
def test_half_of_an_older_tokenizer_is_none(left, whisper, refused):
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (whisper / name).unlink(missing_ok=True)
    (whisper / left).write_text("{}")
    refused(whisper, r"holds no tokenizer\.json")


def test_a_whisper_with_the_older_two_files_of_a_tokenizer_is_opened(whisper):
    model = json.loads((whisper / "tokenizer.json").read_text())["model"]
    before = sottovoce.open_model(whisper).text(range(40, 60))
    (whisper / "tokenizer.json").unlink()
    (whisper / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (whisper / "merges.txt").write_text("\n".join(merges))
    assert sottovoce.open_model(whisper).text(range(40, 60)) == before != ""


def test_a_tokenizer_without_text_is_refused(whisper, refused):
    document = json.loads((whisper / "tokenizer.json").read_text())
    document["model"] |= {"vocab": {}, "merges": []}
    (whisper / "tokenizer.json").write_text(json.dumps(document))
    refused(whisper, "its tokenizer knows special tokens and no text|tokenizer or feature extractor cannot be opened")


def test_a_checkpoint_of_a_trainer_without_a_feature_extractor_says_what_to_copy(folder, refused):
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    edit(folder / "config.json", _name_or_path="somebody/model")
    refused(
        folder,
        r"holds no preprocessor_config\.json .*says how audio becomes features; copy it from the model that this one "
        "was trained from, somebody/model$",
    )


def test_a_processor_config_without_a_feature_extractor_is_none(folder, refused):
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    (folder / "processor_config.json").write_text('{"processor_class": "WhisperProcessor"}')
    refused(folder, r"holds no preprocessor_config\.json")


def test_a_feature_extractor_in_the_processor_config_is_one(folder):
    """As transformers 5 saves it."""
    extractor = (
        json.loads((folder / "preprocessor_config.json").read_text())
        if (folder / "preprocessor_config.json").is_file()
        else json.loads((folder / "processor_config.json").read_text())["feature_extractor"]
    )
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    processor = {"feature_extractor": extractor, "processor_class": extractor.get("processor_class", None)}
    (folder / "processor_config.json").write_text(json.dumps({k: v for k, v in processor.items() if v}))
    assert sottovoce.open_model(folder).sampling_rate == 16_000


# --- what is damaged ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json", "processor_config.json"])
@pytest.mark.parametrize(("text", "message"), [("{not json", "is not JSON"), ("[1]", "holds a JSON list")])
def test_a_file_that_is_no_json_object_is_named(name, text, message, whisper, refused):
    if name == "processor_config.json":
        (whisper / "preprocessor_config.json").unlink(missing_ok=True)
    (whisper / name).write_text(text)
    refused(whisper, f"{name} {message}")


TYPES = {
    "suppress_tokens": ["all", 5, [1, "2"], [True]],
    "begin_suppress_tokens": ["all", {"a": 1}],
    "forced_decoder_ids": [5, [1, 2], [[1, "x"]], [[1, 2, 3]]],
    "eos_token_id": ["</s>", [1, "x"], True],
    "decoder_start_token_id": ["<s>", [1]],
    "lang_to_id": [[1, 2], {"<|en|>": "1"}],
    "task_to_id": ["transcribe"],
    "is_multilingual": ["yes", 1],
    "language": [5],
    "max_length": ["448", True],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in TYPES.items() for value in values])
def test_a_setting_of_another_type_is_named_with_its_file(key, value, whisper, refused):
    edit(whisper / "generation_config.json", **{key: value})
    refused(whisper, rf"generation_config\.json: {key} is .* would work")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("suppress_tokens", [1, 60_000]),
        ("suppress_tokens", [-1]),
        ("begin_suppress_tokens", [60_000]),
        ("forced_decoder_ids", [[1, None], [2, 60_000]]),
        ("eos_token_id", [1, 60_000]),
        ("decoder_start_token_id", 60_000),
        ("no_timestamps_token_id", 60_000),
        ("lang_to_id", {"<|en|>": 60_000}),
        ("task_to_id", {"transcribe": 60_000}),
    ],
)
@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_a_token_beyond_the_vocabulary_is_named_and_no_index_error(name, key, value, whisper, refused):
    edit(whisper / name, **{key: value})
    refused(whisper, rf"{name}: {key} names token (60000|-1), and the model of config\.json has the tokens 0 to \d+;")


@pytest.mark.parametrize("value", ["", [], None])
def test_a_setting_that_a_trainer_emptied_is_none(value, whisper):
    document = json.loads((whisper / "generation_config.json").read_text())
    (whisper / "generation_config.json").write_text(json.dumps(document | {"suppress_tokens": value}))
    assert sottovoce.open_model(whisper).rules("en", "transcribe").suppressed == ()


def test_a_feature_extractor_of_another_models_is_refused(whisper, refused):
    name = "preprocessor_config.json" if (whisper / "preprocessor_config.json").is_file() else "processor_config.json"
    extractor = {"feature_size": 128}
    if name == "processor_config.json":
        inner = json.loads((whisper / name).read_text())["feature_extractor"]
        extractor = {"feature_extractor": inner | extractor}
    edit(whisper / name, **extractor)
    refused(whisper, f"{name} makes 128 mel bins, and the model of config.json takes 80")


# --- weights and config ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", {"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq"),
        ("config.json", {"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
        ("config.json", {"bits": 4}, "quantization_config in config.json"),
        ("quantize_config.json", {"bits": 4, "group_size": 128}, "quantize_config.json"),
    ],
)
def test_a_checkpoint_that_another_tool_has_quantized_is_refused(name, content, told, folder, refused):
    if name == "config.json":
        edit(folder / name, quantization_config=content)
    else:
        (folder / name).write_text(json.dumps(content))
    refused(folder, rf"is quantized already \({told}\); give the checkpoint that it was made from")


def test_our_own_export_to_compressed_tensors_is_an_export_and_no_checkpoint(toy, tmp_path):
    pytest.importorskip("compressed_tensors")
    sottovoce.compress(toy("whisper"), recipe={"grid": {"group_size": 32}, "steps": ["rtn"]}, output=tmp_path / "a")
    sottovoce.export(tmp_path / "a", to="compressed-tensors", output=tmp_path / "packed")
    assert find_target(tmp_path / "packed").exported
    (tmp_path / "packed" / "export.json").unlink()
    with pytest.raises(ValueError, match=r"is quantized already \(compressed-tensors\)"):
        find_target(tmp_path / "packed")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.float8_e4m3fn, torch.int32])
def test_weights_of_a_type_that_no_model_has_are_refused_from_their_headers(dtype, folder, refused):
    tensors = load_file(folder / "model.safetensors")
    name = max(tensors, key=lambda name: tensors[name].numel())
    save_file(tensors | {name: tensors[name].to(dtype)}, folder / "model.safetensors")
    refused(folder, rf"model\.safetensors: {name} is \w+; float16, bfloat16 and float32 would work")


def test_an_adapter_is_told_from_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file({"lora": torch.ones(2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="it is an adapter; merge it into its model"):
        resolve(tmp_path)


LAYERS = {"whisper": "decoder_layers", "moonshine": "decoder_num_hidden_layers"}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_a_config_with_fewer_layers_than_the_weights_cuts_nothing_off_without_a_word(folder):
    edit(folder / "config.json", **{LAYERS[config_of(folder)["model_type"]]: 1})
    with pytest.raises(
        ValueError, match=r"holds \d+ weights for which the model of its config\.json has no place, fir"
    ):
        sottovoce.open_model(folder)


def test_a_config_with_more_layers_than_the_weights_is_refused(folder):
    edit(folder / "config.json", **{LAYERS[config_of(folder)["model_type"]]: 3})
    with pytest.raises(ValueError, match=r"lacks \d+ weights that its config\.json asks for"):
        sottovoce.open_model(folder)


def test_weights_of_another_shape_than_the_config_says_are_named(folder):
    key = "decoder_ffn_dim" if config_of(folder)["model_type"] == "whisper" else "intermediate_size"
    edit(folder / "config.json", **{key: 48})
    with pytest.raises(ValueError, match=r"model\.\w+\.layers\.0\..* has the shape .*, and its config\.json asks for"):
        sottovoce.open_model(folder)


@pytest.mark.parametrize("change", [{"d_model": "wide"}, {"d_model": 33}, {"encoder_layers": -1.5}])
def test_a_config_that_describes_no_model_is_named(change, whisper, refused):
    edit(whisper / "config.json", **change)
    refused(whisper, r"config\.json does not describe a model that can be built", loads=True)


def test_weights_beside_the_model_are_left_out_with_a_note(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"classifier.weight": torch.ones(2, 2)}, folder / "model.safetensors")
    with pytest.warns(UserWarning, match=r"holds 1 weights beside the model, first classifier\.weight"):
        sottovoce.open_model(folder)


# --- companions -----------------------------------------------------------------------------------


def test_companions_are_the_files_of_the_model_and_not_a_users_own(whisper):
    before = companions(whisper)
    for name in ("notes.txt", "trainer_state.json", "all_results.json", "run.json", "LICENSE.txt"):
        (whisper / name).write_text("{}")
    assert {path.name for path in companions(whisper)} - {path.name for path in before} == {"LICENSE.txt"}


def test_every_built_in_model_is_whole():
    for name in ("builtin:whisper", "builtin:moonshine"):
        assert sottovoce.open_model(name).text(range(20, 60))
