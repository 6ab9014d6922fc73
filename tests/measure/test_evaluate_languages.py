"""Rows in several languages: what they are prompted with, what is kept, how they are scored, what is refused."""

import json
from dataclasses import replace

import pytest

import sottovoce
from sottovoce.recognition.target import Target, find_target
from sottovoce.sweeping.row import read_rows
from tests import toys
from tests.measure.manifests import rows_at_home, rows_of, write_rows

CHINESE = "明天早上我们一起去公园散步"


@pytest.fixture(scope="module")
def many(heard, tmp_path_factory):
    """The seven clips, said to be German, English or nothing in turn."""
    said = [{"language": "de-AT"}, {"language": "English"}, {}]
    rows = [{**row, **said[i % 3]} for i, row in enumerate(rows_at_home(heard))]
    return write_rows(tmp_path_factory.mktemp("many") / "many.jsonl", rows)


def marked(manifest, languages, **more):
    """The rows of a manifest in these languages, one after the other."""
    return [
        {**row, **({"language": language} if language else {}), **more}
        for row, language in zip(rows_at_home(manifest), languages, strict=False)
    ]


def kept(folder):
    return {row["id"]: row for path in folder.glob("transcripts/*/*.jsonl") for row in rows_of(path)}


def heard_in(language, toy, manifest, tmp_path):
    result = sottovoce.evaluate(toy("whisper"), data=manifest, output=tmp_path / f"in-{language}", language=language)
    return {row.id: row.hypothesis for row in result.utterances}


@pytest.fixture
def silent_checkpoint(tmp_path):
    """A toy that names no language of its own."""
    folder = toys.write_whisper(tmp_path / "silent")
    path = folder / "generation_config.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in saved.items() if key != "language"}))
    return folder


# --- prompts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 16])
def test_each_row_is_transcribed_in_its_own_language_which_was_ignored(batch_size, toy, heard, many, tmp_path):
    sottovoce.evaluate(toy("whisper"), data=many, output=tmp_path / "run", batch_size=batch_size)
    rows = kept(tmp_path / "run")
    alone = {language: heard_in(language, toy, heard, tmp_path) for language in ("de", "en")}
    assert len(rows) == 7
    for i, row in enumerate(rows_of(many)):
        wanted = ("de", "en", "en")[i % 3]  # the checkpoint's own is English
        assert rows[row["id"]]["language"] == wanted
        assert rows[row["id"]]["hypothesis"] == alone[wanted][row["id"]]
        assert rows[row["id"]]["reference_language"] == ("de", "en", None)[i % 3]
    assert any(alone["de"][id_] != alone["en"][id_] for id_ in rows)  # or nothing was shown


def test_one_language_for_the_run_wins_over_the_rows(toy, heard, many, tmp_path):
    sottovoce.evaluate(toy("whisper"), data=many, output=tmp_path / "run", language="german")
    rows, alone = kept(tmp_path / "run"), heard_in("de", toy, heard, tmp_path)
    assert {row["language"] for row in rows.values()} == {"de"}
    assert {id_: row["hypothesis"] for id_, row in rows.items()} == alone
    assert [rows[row["id"]]["reference_language"] for row in rows_of(many)] == ["de", "en", "de"] * 2 + ["de"]


def test_a_detected_language_is_kept_where_nobody_names_one(silent_checkpoint, many, tmp_path):
    sottovoce.evaluate(silent_checkpoint, data=many, output=tmp_path / "run")
    recognizer = sottovoce.load(silent_checkpoint)
    rows = kept(tmp_path / "run")
    for i, row in enumerate(rows_of(many)):
        clip = recognizer.read(row["audio"])
        [prompt] = recognizer.prompts([recognizer.frontend.features(clip)])
        detected = recognizer.frontend.spoken(prompt)
        assert rows[row["id"]]["language"] == ("de", "en", detected)[i % 3]


def test_no_model_is_opened_twice_for_several_languages(toy, many, monkeypatch):
    opened, real = [], Target.open
    monkeypatch.setattr(Target, "open", lambda self: opened.append(self.name) or real(self))
    sottovoce.evaluate(toy("whisper"), data=many)
    assert opened == [str(toy("whisper"))]


def test_a_moonshine_takes_no_language_and_its_rows_are_scored_by_theirs(toy, heard, tmp_path):
    manifest = write_rows(tmp_path / "zh.jsonl", marked(heard, ["zh"] * 2, text=CHINESE))
    result = sottovoce.evaluate(toy("moonshine"), data=manifest)
    assert {(row.language, row.reference_language) for row in result.utterances} == {(None, "zh")}
    assert (result.scores[0].unit, result.scores[0].reference_words) == ("character", 26)


def test_a_translation_is_scored_as_english_whatever_is_spoken(toy, heard, tmp_path):
    manifest = write_rows(tmp_path / "de.jsonl", marked(heard, ["de"] * 2))
    result = sottovoce.evaluate(toy("whisper"), data=manifest, task="translate")
    assert {(row.language, row.reference_language) for row in result.utterances} == {("de", "en")}
    assert result.scores[0].normalizer == "whisper-english"


def test_a_set_whose_languages_changed_is_another_set(toy, heard, tmp_path):
    manifest = write_rows(tmp_path / "own.jsonl", marked(heard, ["de"] * 3))
    sottovoce.evaluate(toy("whisper"), data=manifest, output=tmp_path / "run")
    write_rows(manifest, marked(heard, ["de", "de", "en"]))
    with pytest.raises(ValueError, match="another data called own, which has changed since"):
        sottovoce.evaluate(toy("whisper"), data=manifest, output=tmp_path / "run")


def test_a_run_of_before_languages_were_kept_is_read_and_goes_on(toy, heard, tmp_path):
    asked = {"data": heard, "output": tmp_path, "language": "de"}
    before = sottovoce.evaluate(toy("whisper"), **asked)
    [file] = tmp_path.glob("transcripts/*/*.jsonl")
    rows = [{key: value for key, value in row.items() if "language" not in key} for row in rows_of(file)]
    write_rows(file, rows[:-2])
    run = json.loads((tmp_path / "run.json").read_text())
    for target in run["targets"]:
        del target["notes"]
    (tmp_path / "run.json").write_text(json.dumps(run))
    after = sottovoce.evaluate(toy("whisper"), **asked)
    assert [row.language for row in sorted(after.utterances, key=lambda row: row.language or "")].count("de") == 2
    [one], [other] = before.scores, after.scores
    assert replace(one, rtfx=0, notes=()) == replace(other, rtfx=0, notes=())
    assert sottovoce.rescore(tmp_path).scores[0].normalizer == one.normalizer == "whisper-basic"


# --- refused --------------------------------------------------------------------------------------


def forbid_models(monkeypatch):
    monkeypatch.setattr(Target, "open", lambda self: pytest.fail(f"{self.name} was opened"))


def test_an_english_only_whisper_refuses_rows_in_other_languages_before_anything_runs(heard, tmp_path, monkeypatch):
    english = toys.write_whisper(tmp_path / "english", english_only=True)
    manifest = write_rows(tmp_path / "mixed.jsonl", marked(heard, ["en", "de", "fr", "de", None]))
    forbid_models(monkeypatch)
    told = r"english transcribes English only, and 3 of the 5 rows of mixed are in others: de \(2\), fr \(1\); leave"
    with pytest.raises(ValueError, match=told):
        sottovoce.evaluate(english, data=manifest, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=told):
        sottovoce.sweep(
            {"models": [str(english)], "data": [str(manifest)], "recipes": ["rtn-w8"]}, output=tmp_path / "s"
        )
    assert not (tmp_path / "s").exists()
    monkeypatch.undo()
    result = sottovoce.evaluate(english, data=manifest, language="en")
    assert [row.language for row in result.utterances] == ["en"] * 5


def test_languages_that_a_whisper_does_not_know_are_counted(toy, heard, tmp_path, monkeypatch):
    manifest = write_rows(tmp_path / "far.jsonl", marked(heard, ["de", "fr", "fr", "sw"]))
    forbid_models(monkeypatch)
    told = r"knows 2 languages, and 3 of the 4 rows of far are in others: fr \(2\), sw \(1\); .*--language"
    with pytest.raises(ValueError, match=told):
        sottovoce.evaluate(toy("whisper"), data=manifest)


def test_of_many_languages_the_first_are_named(toy, heard, tmp_path):
    codes = ["fr", "es", "it", "pt", "nl", "pl", "ru", "zh", "ja", "th"]
    rows = [{**row, "id": f"{i}", "language": code} for i, code in enumerate(codes) for row in rows_at_home(heard)[:1]]
    with pytest.raises(ValueError, match=r"10 of the 10 rows of .*, zh \(1\) and 2 more; leave"):
        sottovoce.evaluate(toy("whisper"), data=write_rows(tmp_path / "ten.jsonl", rows))


# --- scores ---------------------------------------------------------------------------------------


def test_a_set_without_spaces_is_scored_by_characters_whether_its_language_is_named_or_not(toy, heard, tmp_path):
    results = []
    for language in ("zh", None):
        manifest = write_rows(tmp_path / f"{language}.jsonl", marked(heard, [language] * 3, text=CHINESE))
        results.append(sottovoce.evaluate(toy("moonshine"), data=manifest).scores[0])
    for score in results:
        assert (score.unit, score.reference_words, score.normalizer) == ("character", 39, "whisper-basic")
        assert score.languages == ()
        assert score.notes == ("CER: characters are counted, as the language has no spaces between words",)
    assert results[0].wer == results[1].wer


def test_a_set_of_several_languages_says_what_is_mixed_and_each_language_s_own_rate(toy, heard, tmp_path):
    rows = marked(heard, ["de", "zh", "zh", None, "hi"])
    for row, text in zip(rows, ("Das Fahrrad", CHINESE, "公园", "the colour", "मोहन के साथ"), strict=True):
        row["text"] = text
    [score] = sottovoce.evaluate(toy("moonshine"), data=write_rows(tmp_path / "mixed.jsonl", rows)).scores
    assert score.unit == "mixed"
    assert score.normalizer == "auto: whisper-basic 3 rows, whisper-english 1 row, basic-marks 1 row"
    assert "spelling" in score.normalizer_version
    assert score.notes[0].startswith("WER/CER: in 2 of 5 rows, characters are counted")
    parts = {part.language: part for part in score.languages}
    assert score.languages[0].language == "zh"  # most rows first
    assert {name: (part.unit, part.utterances, part.reference_words) for name, part in parts.items()} == {
        "zh": ("character", 2, 15), "de": ("word", 1, 2), None: ("word", 1, 2), "hi": ("word", 1, 3),
    }  # fmt: skip
    assert sum(part.errors for part in parts.values()) == score.substitutions + score.deletions + score.insertions
    assert all(part.wer == pytest.approx(100 * part.errors / part.reference_words) for part in parts.values())


def test_a_score_is_read_back_with_its_languages(toy, many, tmp_path):
    [score] = sottovoce.evaluate(toy("whisper"), data=many, output=tmp_path).scores
    [file] = tmp_path.glob("transcripts/*/*.score.json")
    assert len(score.languages) == 3
    assert type(score).of_document(json.loads(file.read_text())) == score
    old = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("unit", "languages", "notes")}
    assert type(score).of_document(old) == replace(score, languages=(), notes=())


def test_an_english_normalizer_on_other_languages_is_said_and_auto_is_the_default(toy, heard, tmp_path):
    manifest = write_rows(tmp_path / "de.jsonl", marked(heard, ["de", "de", "en"]))
    sottovoce.evaluate(toy("whisper"), data=manifest, output=tmp_path / "run")
    [fitting] = sottovoce.rescore(tmp_path / "run").scores
    assert fitting.normalizer == "auto: whisper-basic 2 rows, whisper-english 1 row"
    assert fitting.notes == ()
    [forced] = sottovoce.rescore(tmp_path / "run", normalizer="whisper-english").scores
    assert forced.normalizer == "whisper-english"
    assert forced.notes == (
        "whisper-english was applied to 2 of 3 rows that are not English; --normalizer auto fits each row",
    )


def test_rows_of_no_language_that_a_model_hears_as_another_are_said_to_be_normalised_as_english(heard, tmp_path):
    german = toys.write_whisper(tmp_path / "german")
    path = german / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "language": "de"}))
    [score] = sottovoce.evaluate(german, data=heard, limit=2).scores
    assert score.normalizer == "whisper-english"
    assert score.notes[0].startswith("2 of 2 rows name no language, were transcribed as de (2), and were normalised as")


def test_english_rows_score_as_before_without_a_note(run):
    for score in sottovoce.rescore(run).scores:
        assert (score.normalizer, score.unit, score.languages, score.notes) == ("whisper-english", "word", (), ())
    assert [s.wer for s in sottovoce.rescore(run).scores] == [
        s.wer for s in sottovoce.rescore(run, normalizer="whisper-english").scores
    ]


def test_a_comparison_of_characters_says_so(rough, toy, heard, tmp_path):
    manifest = write_rows(tmp_path / "zh.jsonl", marked(heard, [None] * 3, text=CHINESE))
    sottovoce.evaluate([rough, toy("whisper")], data=manifest, output=tmp_path / "run")
    [found] = sottovoce.compare(tmp_path / "run")
    assert found.unit == "character"
    assert found.notes[0].startswith("CER: characters are counted")


# --- where the prompt comes from ------------------------------------------------------------------


def test_what_a_prompt_is_read_from_is_said_and_kept_in_the_run(heard, tmp_path):
    folder = toys.write_whisper(tmp_path / "toy")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "lang_to_id"}))
    result = sottovoce.evaluate(folder, data=heard, limit=2, output=tmp_path / "run")
    engine, note = result.notes
    assert engine == f"transcribed by {find_target(folder).engine}"
    assert "lacks lang_to_id; what is missing comes from its tokenizer" in note
    assert sottovoce.rescore(tmp_path / "run").notes == result.notes
    assert json.loads((tmp_path / "run" / "run.json").read_text())["targets"][0]["notes"] == [note]
    assert sottovoce.inspect(folder).notes == (note,)


# --- sweeps ---------------------------------------------------------------------------------------


def keys(toy, manifest, tmp_path, **plan):
    document = {"models": [str(toy("whisper"))], "data": [str(manifest)], "recipes": ["rtn-w8"], **plan}
    sottovoce.sweep(document, output=tmp_path)
    return [row.key for row in read_rows(tmp_path)]


def test_auto_is_for_english_data_what_whisper_english_is_and_computes_no_row_again(toy, heard, tmp_path, decoded):
    first = keys(toy, heard, tmp_path, normalizer="whisper-english")
    decoded.clear()
    assert keys(toy, heard, tmp_path) == first
    assert decoded == []
    assert keys(toy, heard, tmp_path, normalizer="whisper-basic") != first


def test_rows_in_another_language_make_other_rows_of_a_sweep(toy, heard, tmp_path):
    manifest = write_rows(tmp_path / "de.jsonl", marked(heard, ["de", "en"]))
    fitting, forced = (keys(toy, manifest, tmp_path / name, normalizer=name) for name in ("auto", "whisper-english"))
    assert set(fitting).isdisjoint(forced)
    [score] = read_rows(tmp_path / "auto")[0].scores
    assert [part.language for part in score.languages] == ["de", "en"]
