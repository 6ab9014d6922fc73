"""The languages of calibration and training audio."""

import pytest

import sottovoce
from sottovoce.calibration.clips import calibrate
from sottovoce.models import open_model
from sottovoce.recognition.target import Target
from sottovoce.speech.datasets import read_corpus
from tests import toys
from tests.measure.manifests import rows_at_home, write_rows

TRAINED = {"steps": [{"finetune": {"epochs": 1, "batch": 4}}]}


def in_languages(manifest, languages, path):
    rows = zip(rows_at_home(manifest), languages, strict=False)
    return write_rows(path, [{**row, **({"language": language} if language else {})} for row, language in rows])


def test_calibration_audio_is_prompted_in_each_row_s_language_and_stays_in_its_order(toy, speech, tmp_path):
    model = open_model(toy("whisper"))
    languages = ["de", "en", None, "de"]
    corpus = read_corpus(in_languages(speech, languages, tmp_path / "many.jsonl"))
    clips = calibrate(model, corpus).clips
    assert [model.frontend.spoken(clip.tokens[0].tolist()) for clip in clips] == ["de", "en", "en", "de"]
    alone = {language: calibrate(model, corpus, language=language).clips for language in ("de", "en")}
    for clip, language, german, english in zip(clips, languages, alone["de"], alone["en"], strict=True):
        wanted = german if language == "de" else english
        assert clip.samples == wanted.samples
        assert clip.tokens.tolist() == wanted.tokens.tolist()
    spoken = calibrate(model, corpus, tokens="transcript").clips
    assert [model.frontend.spoken(clip.tokens[0].tolist()) for clip in spoken] == ["de", "en", "en", "de"]


@pytest.mark.parametrize("what", ["data", "train"])
def test_audio_in_a_language_that_the_model_does_not_know_is_refused_before_it_is_opened(
    what, toy, speech, tmp_path, monkeypatch
):
    monkeypatch.setattr(Target, "open", lambda self: pytest.fail(f"{self.name} was opened"))
    manifest = in_languages(speech, ["de", "sw"], tmp_path / "far.jsonl")
    recipe = "gptq-w4" if what == "data" else TRAINED
    with pytest.raises(ValueError, match=r"knows 2 languages, and 1 of the 2 rows of far are in others: sw \(1\)"):
        sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / "out", **{what: manifest})


def test_training_takes_the_one_language_of_its_rows_and_refuses_several(toy, lessons, tmp_path, monkeypatch):
    asked = []

    def noted(self, language=None, task=None):
        asked.append(language)
        raise KeyboardInterrupt

    several = in_languages(lessons("whisper"), ["de", "en", "de"], tmp_path / "several.jsonl")
    with pytest.raises(ValueError, match=r"rows of several name 2 languages: de \(2\), en \(1\); training takes one"):
        sottovoce.compress(toy("whisper"), recipe=TRAINED, train=several, output=tmp_path / "out")
    one = in_languages(lessons("whisper"), ["de"] * 8, tmp_path / "one.jsonl")
    monkeypatch.setattr("sottovoce.models.whisper.Whisper.rules", noted)
    with pytest.raises(KeyboardInterrupt):
        sottovoce.compress(toy("whisper"), recipe=TRAINED, train=one, output=tmp_path / "out")
    assert asked == ["de"]


def test_rows_that_name_the_one_language_of_a_model_are_as_rows_that_name_none(lessons, toy, tmp_path):
    english = toys.write_whisper(tmp_path / "english", english_only=True)
    mixed = in_languages(lessons("whisper"), ["en", None, "en"], tmp_path / "mixed.jsonl")
    model = open_model(english)
    clips = calibrate(model, read_corpus(mixed)).clips
    plain = calibrate(model, read_corpus(lessons("whisper")).select(None, 0)).clips[:3]
    assert [clip.tokens.tolist() for clip in clips] == [clip.tokens.tolist() for clip in plain]
    moonshine = open_model(toy("moonshine"))
    german = in_languages(lessons("whisper"), ["de"] * 3, tmp_path / "german.jsonl")
    assert len(calibrate(moonshine, read_corpus(german)).clips) == 3
