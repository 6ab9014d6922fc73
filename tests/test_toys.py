import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from tests import toys

VARIANTS = {
    "whisper": (toys.write_whisper, {}),
    "whisper untied": (toys.write_whisper, {"tied": False}),
    "whisper english": (toys.write_whisper, {"english_only": True}),
    "whisper 128 mels": (toys.write_whisper, {"mels": 128}),
    "whisper 3+1 layers": (toys.write_whisper, {"d_model": 48, "encoder_layers": 3, "decoder_layers": 1}),
    "moonshine": (toys.write_moonshine, {}),
    "moonshine untied": (toys.write_moonshine, {"tied": False}),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    manifest = toys.write_speech(tmp_path_factory.mktemp("speech"), 6, seed=0, prefix="test")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    return [soundfile.read(manifest.parent / row["audio"])[0] for row in rows]


ROOT = Path(toys.__file__).parent.parent


def open_toy(folder):
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder, local_files_only=True).eval()
    return model, AutoProcessor.from_pretrained(folder, local_files_only=True)


def transcribe(folder, clips, **options):
    model, processor = open_toy(folder)
    tokens = []
    for clip in clips:
        features = processor(clip, sampling_rate=toys.SAMPLE_RATE, return_tensors="pt")
        tokens += model.generate(**features, **options).tolist()
    return tokens, processor.batch_decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_toy_loads_and_hears_the_difference_between_clips(tmp_path, clips, variant):
    write, options = VARIANTS[variant]
    tokens, texts = transcribe(write(tmp_path / "toy", **options), clips)
    assert len(set(texts)) >= 4
    assert max(map(len, tokens)) <= 24
    assert sum(map(len, tokens)) / len(tokens) >= 5


@pytest.mark.parametrize("write", [toys.write_whisper, toys.write_moonshine])
def test_transcripts_of_the_default_toys_differ_and_some_end_before_the_limit(tmp_path, clips, write):
    tokens, texts = transcribe(write(tmp_path / "toy"), clips)
    assert len(set(texts)) == len(clips)
    assert min(map(len, tokens)) < 24


@pytest.mark.parametrize("write", [toys.write_whisper, toys.write_moonshine])
@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_tied_or_not_after_loading(tmp_path, write, tied):
    model, _ = open_toy(write(tmp_path / "toy", tied=tied))
    assert (model.proj_out.weight is model.model.decoder.embed_tokens.weight) == tied
    assert torch.equal(model.proj_out.weight, model.model.decoder.embed_tokens.weight) == tied


@pytest.mark.parametrize("write", [toys.write_whisper, toys.write_moonshine])
def test_a_toy_is_its_seed(tmp_path, write):
    before = torch.random.get_rng_state()
    one, same, other = (write(tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1)))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, same, other)]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("write", [toys.write_whisper, toys.write_moonshine])
def test_no_parameter_keeps_a_value_that_hides_a_bug(tmp_path, write):
    model, _ = open_toy(write(tmp_path / "toy"))
    for name, w in model.named_parameters():
        assert w.std() > 0.05, name  # no zero bias, no norm of ones


@pytest.mark.parametrize("write", [toys.write_whisper, toys.write_moonshine])
def test_tokenizers_give_back_what_they_were_given(tmp_path, write):
    _, processor = open_toy(write(tmp_path / "toy"))
    for text in ("the red man", "zoë"):
        ids = processor.tokenizer(text).input_ids
        assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_whisper_gives_timestamps_and_word_times(tmp_path, clips):
    model, processor = open_toy(toys.write_whisper(tmp_path / "toy"))
    features = processor(clips[0], sampling_rate=toys.SAMPLE_RATE, return_tensors="pt")
    first = processor.tokenizer.convert_tokens_to_ids("<|0.00|>")
    assert model.generate(**features, return_timestamps=True).max() >= first
    times = model.generate(**features, return_timestamps=True, return_token_timestamps=True)
    assert times["token_timestamps"].max() <= toys.WINDOW_SECONDS


def test_the_prompt_is_the_languages_and_the_tasks_where_there_are_any(tmp_path):
    prompts = []
    for english_only in (False, True):
        _, processor = open_toy(toys.write_whisper(tmp_path / str(english_only), english_only=english_only))
        ids = processor.tokenizer("a").input_ids
        prompts.append([t for t in processor.tokenizer.convert_ids_to_tokens(ids) if t.startswith("<|")][:-1])
    assert prompts == [
        ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"],
        ["<|startoftranscript|>", "<|notimestamps|>"],
    ]


def test_speech_is_what_its_manifest_says(tmp_path):
    manifest = toys.write_speech(tmp_path, 8, seed=3, prefix="test")
    again = toys.write_speech(tmp_path / "again", 8, seed=3, prefix="test")
    assert manifest.read_text() == again.read_text()
    for line in manifest.read_text().splitlines():
        row = json.loads(line)
        audio, rate = soundfile.read(tmp_path / row["audio"])
        assert rate == 16_000
        assert len(audio) / rate == row["seconds"]
        assert 0.4 <= row["seconds"] <= 1.9
        assert 2 <= len(row["text"].split()) <= 5
        assert row["speaker"] in toys.SPEAKERS
        assert (tmp_path / row["audio"]).read_bytes() == (tmp_path / "again" / row["audio"]).read_bytes()


def test_the_tiny_sized_whisper_has_the_sizes_of_whisper_tiny(tmp_path, clips):
    folder = toys.whisper_sized(tmp_path / "tiny")
    model, processor = open_toy(folder)
    assert sum(w.numel() for w in model.parameters()) == 37_760_640
    assert processor.batch_decode([[40, 5_000, 51_864]]) == [processor.batch_decode([[40]])[0]]
    tokens, _ = transcribe(folder, clips[:1], max_new_tokens=4)
    assert len(tokens[0]) <= 4


@pytest.mark.slow
def test_the_script_writes_both_toys_and_their_speech(tmp_path):
    subprocess.run([sys.executable, "-m", "tests.toys", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    counts = {name: len((tmp_path / name).read_text().splitlines()) for name in ("test.jsonl", "calibration.jsonl")}
    assert counts == {"test.jsonl": 12, "calibration.jsonl": 8}
    assert len(list((tmp_path / "speech").glob("*.flac"))) == 20
    for name in ("whisper", "moonshine"):
        assert (tmp_path / name / "model.safetensors").is_file()
