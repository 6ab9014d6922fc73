"""What comes with sottovoce is whole, small enough, apart from its test, and good enough to lose something."""

import json
import sys
from pathlib import Path

import pytest

import sottovoce
from sottovoce import built_in
from sottovoce.built_in import MODELS, SETS, built_in_model, built_in_set
from sottovoce.measure.wer import WordErrors, align
from sottovoce.models.checkpoint import resolve
from sottovoce.speech import audio
from sottovoce.speech.datasets import read_corpus

MB = 10**6


def rows(name):
    return [json.loads(line) for line in (built_in_set(f"builtin:{name}") / "manifest.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_whole_and_its_clips_last_what_its_manifest_says(name):
    corpus = read_corpus(f"builtin:{name}", need_text=name != "unlabelled")
    assert str(corpus.path) == corpus.name == f"builtin:{name}"
    for utterance in corpus.utterances:
        assert audio.seconds(utterance.audio) == pytest.approx(utterance.seconds, abs=0.001)
        assert utterance.seconds < 8


def test_the_unlabelled_set_has_no_text():
    assert all("text" not in row for row in rows("unlabelled"))


def test_no_speaker_and_no_text_of_the_test_is_heard_elsewhere():
    elsewhere = [row for name in ("calibration", "train", "unlabelled") for row in rows(name)]
    assert not {row["speaker"] for row in rows("test")} & {row["speaker"] for row in elsewhere}
    assert not {row["text"] for row in rows("test")} & {row.get("text") for row in elsewhere}


def test_the_test_has_some_twenty_minutes_and_all_sets_fit_in_twelve_megabytes():
    test = rows("test")
    assert 200 <= len(test) <= 300
    assert 18 * 60 < sum(row["seconds"] for row in test) < 22 * 60
    speech = built_in_set("builtin:test").parent
    assert sum(file.stat().st_size for file in speech.rglob("*")) < 12 * MB


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_at_most_8_megabytes_and_opens_in_transformers_offline(name, monkeypatch):
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = built_in_model(f"builtin:{name}")
    assert (folder / "model.safetensors").stat().st_size < 8 * MB
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert model.config.model_type == name
    assert processor.tokenizer(" blood pressure").input_ids
    assert resolve(f"builtin:{name}").folder == folder


@pytest.mark.parametrize("name", MODELS)
def test_a_model_hears_voices_that_it_was_not_trained_on(name):
    utterances = read_corpus("builtin:test").select(24, 0).utterances
    texts = sottovoce.load(f"builtin:{name}").transcribe_clips([utterance.audio for utterance in utterances])
    counts = [align(utterance.text, text) for utterance, text in zip(utterances, texts, strict=True)]
    assert sum(counts, WordErrors(0, 0, 0, 0)).wer < 10


@pytest.mark.parametrize(("read", "name"), [(read_corpus, "builtin:tets"), (resolve, "builtin:wisper")])
def test_a_name_that_is_not_built_in_is_refused_with_those_that_are(read, name):
    with pytest.raises(ValueError, match=r"unknown built-in .*did you mean builtin:(test|whisper)"):
        read(name)


def test_a_built_in_model_has_no_revision():
    with pytest.raises(ValueError, match="comes with sottovoce and has no revision"):
        resolve("builtin:whisper", "main")


def test_any_other_name_is_not_built_in():
    assert built_in_model("openai/whisper-tiny") is None
    assert built_in_set(Path("test.jsonl")) is None
    assert built_in.PREFIX == "builtin:"


def test_without_the_package_that_holds_them_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sottovoce_builtin", None)
    with pytest.raises(
        ValueError, match="builtin:whisper needs the package sottovoce-builtin, which is not installed; pip"
    ):
        built_in_model("builtin:whisper")
