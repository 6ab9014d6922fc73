import json
import os
import shutil
from dataclasses import asdict, replace

import jiwer
import pytest
import soundfile

import sottovoce
from sottovoce.measure.evaluate import Evaluation
from sottovoce.recognition.target import Target
from sottovoce.speech import audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.speech.text import NORMALIZERS, normalizer
from tests import toys
from tests.measure.manifests import rows_at_home, rows_of, write_rows

COUNTS = ("substitutions", "deletions", "insertions", "reference_words", "utterances")


def said(evaluation):
    """What was heard, without what depends on the clock."""
    return {(row.id, row.reference, row.hypothesis, row.tokens, row.capped) for row in evaluation.utterances}


def scored(evaluation):
    """The scores without what depends on the clock and on where the target lies."""
    return [replace(score, rtfx=0, target="", baseline="") for score in evaluation.scores]


def forbid_models(monkeypatch):
    monkeypatch.setattr(Target, "open", lambda self: pytest.fail(f"{self.name} was opened"))


# --- transcripts ----------------------------------------------------------------------------------


def test_every_utterance_has_one_line_with_both_texts_as_they_are(run, heard, rough):
    [file] = (run / "transcripts").glob("rough-*/*.jsonl")
    lines = {row["id"]: row for row in rows_of(file)}
    model = sottovoce.load(rough)
    rows = rows_of(heard)
    assert len(file.read_text().splitlines()) == len(rows) == len(lines)
    for row in rows:
        clip = heard.parent / row["audio"]
        line = lines[row["id"]]
        assert line["reference"] == row["text"]
        assert line["hypothesis"] == model.transcribe_clips(clip)
        assert line["seconds"] == pytest.approx(len(audio.read(clip)) / 16_000, abs=1e-4)
        assert (line["speaker"], line["fingerprint"]) == (row["speaker"], audio.fingerprint(clip))
        assert line["tokens"] > 0


@pytest.mark.parametrize("family", ["whisper", "moonshine"])
def test_the_batch_size_changes_nothing_that_was_heard(family, toy, heard):
    one, three, sixteen = (sottovoce.evaluate(toy(family), data=heard, batch_size=size) for size in (1, 3, 16))
    assert said(one) == said(three) == said(sixteen)
    assert scored(one) == scored(three) == scored(sixteen)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nothing_is_refused(size, toy, heard):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, found {size}"):
        sottovoce.evaluate(toy("whisper"), data=heard, batch_size=size)


def test_text_with_line_separators_of_unicode_is_one_line(toy, heard, tmp_path):
    rows = rows_at_home(heard)[:2]
    rows[0]["text"] = "one\u2028two\u0085three\u2029four"
    manifest = write_rows(tmp_path / "odd.jsonl", rows)
    once = sottovoce.evaluate(toy("whisper"), data=manifest, output=tmp_path / "run")
    again = sottovoce.rescore(tmp_path / "run")
    assert rows[0]["text"] in {row.reference for row in again.utterances}
    assert said(once) == said(again)


def test_without_an_output_nothing_is_left_behind(toy, heard, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert sottovoce.evaluate(toy("whisper"), data=heard, limit=2).utterances
    assert not list(tmp_path.iterdir())


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMALIZERS)
def test_the_wer_is_jiwers_over_the_normalised_lines(name, run):
    normal = normalizer(name)
    for score in sottovoce.rescore(run, normalizer=name).scores:
        [file] = (run / "transcripts").glob(f"{score.target.rpartition('/')[2]}-*/*.jsonl")
        lines = rows_of(file)
        told = jiwer.process_words(
            [normal(line["reference"]) for line in lines], [normal(line["hypothesis"]) for line in lines]
        )
        assert score.wer == pytest.approx(100 * told.wer)
        assert score.substitutions + score.deletions + score.insertions == (
            told.substitutions + told.deletions + told.insertions
        )
        assert score.insertions - score.deletions == told.insertions - told.deletions
        assert score.reference_words == told.hits + told.substitutions + told.deletions
        assert (score.normalizer, score.normalizer_version) == (name, normal.version)
        assert score.scorer.startswith("kaldialign ")


def test_beside_its_base_an_artifact_has_a_difference_with_its_interval(run, toy, rough):
    small, base = sottovoce.rescore(run).scores
    assert (small.target, base.target, small.baseline) == (str(rough), str(toy("whisper")), str(toy("whisper")))
    low, high = small.delta_wer_interval
    assert small.delta_wer == pytest.approx(small.wer - base.wer)
    assert low <= small.delta_wer <= high
    assert low < high
    assert small.verdict == ("no significant difference" if low <= 0 <= high else "worse" if low > 0 else "better")
    assert base.delta_wer is base.delta_wer_interval is base.baseline is base.verdict is None
    assert (small.bytes, base.bytes) == tuple(
        (folder / "model.safetensors").stat().st_size for folder in (rough, toy("whisper"))
    )


def test_alone_an_artifact_has_no_difference_until_its_base_is_heard_too(rough, toy, heard, tmp_path):
    [alone] = sottovoce.evaluate(rough, data=heard, output=tmp_path / "run").scores
    assert alone.delta_wer is alone.delta_wer_interval is alone.baseline is alone.verdict is None
    sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path / "run")
    [beside] = sottovoce.evaluate(rough, data=heard, output=tmp_path / "run").scores
    assert beside.baseline == str(toy("whisper"))


def test_another_familys_model_is_no_baseline(rough, toy, heard):
    result = sottovoce.evaluate([rough, toy("moonshine")], data=heard, limit=2)
    assert [score.delta_wer for score in result.scores] == [None, None]


def test_a_set_of_silence_has_no_difference_and_stops_nothing(rough, toy, heard, tmp_path):
    rows = [{**row, "text": ""} for row in rows_at_home(heard)[:2]]
    silence = write_rows(tmp_path / "silence.jsonl", rows)
    result = sottovoce.evaluate([rough, toy("whisper")], data=[silence, heard])
    quiet, loud = (next(s for s in result.scores if s.baseline and s.data == name) for name in ("silence", "test"))
    assert (quiet.reference_words, quiet.delta_wer, quiet.delta_wer_interval) == (0, None, None)
    assert loud.delta_wer is not None


def test_the_average_is_over_data_sets_not_over_words(toy, heard, tmp_path):
    few = write_rows(tmp_path / "few.jsonl", rows_at_home(heard)[:2])
    result = sottovoce.evaluate(toy("whisper"), data=[heard, few])
    assert result.averages() == {str(toy("whisper")): pytest.approx(sum(s.wer for s in result.scores) / 2)}


def test_several_scores_are_not_one_wer(run):
    result = sottovoce.rescore(run)
    with pytest.raises(ValueError, match="there are 2 scores here"):
        _ = result.wer
    assert Evaluation(result.scores[:1], ()).wer == result.scores[0].wer


def test_a_frame_has_a_row_for_each_score(run):
    result = sottovoce.rescore(run)
    frame = result.to_frame()
    assert list(frame["wer"]) == [score.wer for score in result.scores]
    assert list(frame.columns) == list(asdict(result.scores[0]))


# --- rescore --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMALIZERS)
def test_rescoring_needs_no_model_and_equals_evaluating(name, rough, toy, heard, run, monkeypatch):
    wanted = sottovoce.evaluate([rough, toy("whisper")], data=heard, normalizer=name)
    monkeypatch.setattr("sottovoce.measure.evaluate.find_target", lambda name: pytest.fail(f"{name} was looked for"))
    forbid_models(monkeypatch)
    again = sottovoce.rescore(run, normalizer=name)
    assert scored(again) == scored(wanted)
    assert said(again) == said(wanted)
    kept = [json.loads(path.read_text()) for path in (run / "transcripts").glob("*/*.score.json")]
    assert sorted(score["wer"] for score in kept) == sorted(score.wer for score in again.scores)


def test_normalizers_disagree_about_these_texts(run):
    found = {name: tuple(score.wer for score in sottovoce.rescore(run, normalizer=name).scores) for name in NORMALIZERS}
    assert found.pop("basic-marks") == found["whisper-basic"]  # there are no marks
    assert len(set(found.values())) == len(found)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run\.json; give a folder that `sottovoce evaluate"):
        sottovoce.rescore(tmp_path)


# --- data -----------------------------------------------------------------------------------------


def test_a_limit_hears_the_utterances_that_the_seed_draws(toy, heard):
    whole = sottovoce.evaluate(toy("whisper"), data=heard)
    few = sottovoce.evaluate(toy("whisper"), data=heard, limit=3, seed=5)
    drawn = {utterance.id for utterance in read_corpus(heard).select(3, 5).utterances}
    assert few.scores[0].utterances == 3
    assert said(few) == {row for row in said(whole) if row[0] in drawn}
    others = sottovoce.evaluate(toy("whisper"), data=heard, limit=3, seed=6)
    assert said(others) != said(few)


def test_sets_of_one_stem_are_told_apart_by_their_folders(toy, heard, tmp_path):
    rows = rows_at_home(heard)
    first = write_rows(tmp_path / "a" / "test.jsonl", rows[:3])
    second = write_rows(tmp_path / "b" / "test.jsonl", rows[3:])
    for _ in range(2):
        result = sottovoce.evaluate(toy("whisper"), data=[first, second], output=tmp_path / "run")
        assert [(score.data, score.utterances) for score in result.scores] == [("a/test", 3), ("b/test", 4)]
    alone = sottovoce.evaluate(toy("whisper"), data=second).scores[0]
    assert [getattr(result.scores[1], name) for name in COUNTS] == [getattr(alone, name) for name in COUNTS]


def test_sets_of_one_stem_in_folders_of_one_name_are_told_apart(toy, heard, tmp_path):
    rows = rows_at_home(heard)
    paths = [tmp_path / "a" / "deep" / "test.jsonl", tmp_path / "b" / "deep" / "test.jsonl"]
    data = [write_rows(paths[0], rows[:1]), write_rows(paths[1], rows[1:3])]
    for _ in range(2):
        result = sottovoce.evaluate(toy("whisper"), data=data, output=tmp_path / "run")
        assert [score.data for score in result.scores] == ["a/deep/test", "b/deep/test"]


def test_sets_that_differ_in_their_suffix_alone_are_told_apart(toy, heard, tmp_path):
    rows = rows_at_home(heard)
    data = [write_rows(tmp_path / "test.jsonl", rows[:1]), write_rows(tmp_path / "test.json", rows[1:3])]
    names = [score.data for score in sottovoce.evaluate(toy("whisper"), data=data).scores]
    assert len(set(names)) == 2


def test_a_set_named_twice_is_heard_once(toy, heard, decoded, monkeypatch):
    monkeypatch.chdir(heard.parent)
    result = sottovoce.evaluate(toy("whisper"), data=[heard, heard.name])
    assert [score.utterances for score in result.scores] == [len(rows_of(heard))]
    assert sum(decoded) == len(rows_of(heard))


def test_a_target_named_twice_is_heard_once(toy, heard, decoded):
    result = sottovoce.evaluate([toy("whisper"), str(toy("whisper"))], data=heard, limit=2)
    assert (len(result.scores), sum(decoded)) == (1, 2)


# --- refusals -------------------------------------------------------------------------------------


def test_a_test_clip_that_was_calibrated_on_is_refused_before_any_model_opens(toy, speech, tmp_path, monkeypatch):
    fitted = sottovoce.compress(
        toy("whisper"),
        recipe={"steps": [{"wanda": {"where": "*fc1"}}]},
        data=speech,
        limit=3,
        output=tmp_path / "fitted",
    )
    seen = fitted.calibrations[0]["ids"]
    rows = rows_at_home(speech)
    mixed = write_rows(tmp_path / "mixed.jsonl", [{**row, "id": f"renamed-{row['id']}"} for row in rows])
    forbid_models(monkeypatch)
    told = f"was calibrated or trained on 3 of the 8 utterances of mixed, first renamed-{seen[0]}"
    with pytest.raises(ValueError, match=told):
        sottovoce.evaluate([toy("whisper"), fitted.folder], data=mixed, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["text", "audio", "limit"])
def test_data_that_changed_under_its_name_is_refused(change, toy, tmp_path, monkeypatch):
    manifest = toys.write_speech(tmp_path, 3, seed=3, prefix="own")
    sottovoce.evaluate(toy("whisper"), data=manifest, output=tmp_path / "run")
    forbid_models(monkeypatch)
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    rows = rows_of(manifest)
    if change == "text":
        write_rows(manifest, [{**rows[0], "text": "other words"}, *rows[1:]])
    elif change == "audio":
        clip = manifest.parent / rows[0]["audio"]
        samples, rate = soundfile.read(clip)
        soundfile.write(clip, samples[::-1], rate)
    with pytest.raises(ValueError, match=r"another data called own, which has changed since; name a new output folder"):
        sottovoce.evaluate(
            toy("whisper"), data=manifest, output=tmp_path / "run", limit=2 if change == "limit" else None
        )
    assert kept == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_target_that_changed_under_its_name_is_refused(toy, heard, tmp_path):
    for bits in (8, 4):
        sottovoce.compress(toy("whisper"), recipe={"grid": {"bits": bits}, "steps": ["rtn"]}, output=tmp_path / "made")
        if bits == 8:
            sottovoce.evaluate(tmp_path / "made", data=heard, limit=2, output=tmp_path / "run")
    with pytest.raises(ValueError, match=r"another target called .*made, which has changed since"):
        sottovoce.evaluate(tmp_path / "made", data=heard, limit=2, output=tmp_path / "run")


def test_other_settings_want_another_folder(toy, heard, tmp_path):
    sottovoce.evaluate(toy("whisper"), data=heard, limit=2, output=tmp_path / "run", language="en")
    with pytest.raises(ValueError, match=r"was made with .*'en'.*asked for now is .*'de'.*name a new output folder"):
        sottovoce.evaluate(toy("whisper"), data=heard, limit=2, output=tmp_path / "run", language="de")


def test_beams_are_a_setting_of_the_run_and_greedy_search_is_one_beam(toy, heard, tmp_path):
    three = sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path / "three", beam=3)
    one = sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path / "one")
    assert (
        (one.search, three.search)
        == ("greedy", "beam 3")
        == (
            sottovoce.rescore(tmp_path / "one").search,
            sottovoce.rescore(tmp_path / "three").search,
        )
    )
    assert said(one) != said(three)
    heard_by_three = sottovoce.load(toy("whisper"), beam=3).transcribe_clips(
        [heard.parent / r["audio"] for r in rows_of(heard)]
    )
    assert {row.hypothesis for row in three.utterances} == set(heard_by_three)
    assert said(sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path / "one", beam=1)) == said(one)
    with pytest.raises(ValueError, match=r"was made with .*'greedy'.*asked for now is .*'beam 3'.*name a new output"):
        sottovoce.evaluate(toy("whisper"), data=heard, output=tmp_path / "one", beam=3)


@pytest.mark.parametrize("size", [1, 5, 16])
def test_the_batch_size_changes_nothing_that_a_beam_search_heard(size, toy, heard):
    for family in ("whisper", "moonshine"):
        asked = {"data": heard, "beam": 3, "limit": 4}
        assert said(sottovoce.evaluate(toy(family), batch_size=size, **asked)) == said(
            sottovoce.evaluate(toy(family), batch_size=7, **asked)
        )


def test_a_language_that_the_second_target_does_not_know_leaves_no_run(toy, heard, tmp_path):
    with pytest.raises(ValueError, match="language"):
        sottovoce.evaluate(
            [toy("whisper"), toy("moonshine")], data=heard, limit=2, language="de", output=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_a_clip_longer_than_its_manifest_says_is_found_before_anything_is_written(toy, heard, tmp_path):
    clip = tmp_path / "long.wav"
    soundfile.write(clip, toys.tones(40_000, toys.np.random.default_rng(0)), 16_000)
    rows = [*rows_at_home(heard)[:1], {"audio": str(clip), "text": "x", "seconds": 1.0}]
    manifest = write_rows(tmp_path / "false.jsonl", rows)
    with pytest.raises(ValueError, match=r"long\.wav lasts 2\.50 s, and .* transcribes 2 s at once"):
        sottovoce.evaluate(toy("whisper"), data=manifest, batch_size=1, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_to_hear_is_refused(toy, heard):
    for targets, data in (([], heard), (toy("whisper"), [])):
        with pytest.raises(ValueError, match="name at least one target and one data set"):
            sottovoce.evaluate(targets, data=data)


# --- outputs --------------------------------------------------------------------------------------


def test_a_run_in_an_artifacts_folder_is_no_part_of_it_and_outlives_it(toy, heard, tmp_path):
    made = sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=tmp_path / "a")
    sottovoce.evaluate(made.folder, data=heard, output=made.folder)
    assert sottovoce.read_artifact(made.folder) == made
    before = {path: path.read_bytes() for path in made.folder.rglob("transcripts/**/*") if path.is_file()}
    assert before
    sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=made.folder, overrides=["grid.bits=7"])
    assert {path: path.read_bytes() for path in before} == before
    further = {"steps": [{"low_rank": {"where": "*fc1", "metric": "plain"}}]}
    other = sottovoce.compress(made.folder, recipe=further, output=tmp_path / "b")
    assert not (other.folder / "run.json").exists()
    with pytest.raises(ValueError, match=r"holds transcripts of another target .* which has changed since"):
        sottovoce.evaluate(made.folder, data=heard, output=made.folder)


def test_a_run_does_not_go_into_a_checkpoints_folder(toy, heard, tmp_path, monkeypatch):
    forbid_models(monkeypatch)
    before = sorted(toy("whisper").iterdir())
    with pytest.raises(ValueError, match="is a checkpoint's folder, and results need one of their own"):
        sottovoce.evaluate(toy("whisper"), data=heard, output=toy("whisper"))
    assert sorted(toy("whisper").iterdir()) == before


def test_a_set_and_a_target_with_names_as_long_as_a_file_system_takes_are_heard(toy, heard, tmp_path):
    manifest = write_rows(tmp_path / f"{'n' * 249}.jsonl", rows_at_home(heard)[:1])
    target = shutil.copytree(toy("whisper"), tmp_path / ("m" * 255))
    found = sottovoce.evaluate(target, data=manifest, output=tmp_path / "run")
    assert len(found.utterances) == 1


def test_a_set_whose_file_has_a_name_that_is_not_utf8_is_heard(toy, heard, tmp_path):
    manifest = write_rows(tmp_path / os.fsdecode(b"caf\xe9.jsonl"), rows_at_home(heard)[:1])
    found = sottovoce.evaluate(toy("whisper"), data=manifest, output=tmp_path / "run")
    assert sottovoce.rescore(tmp_path / "run").scores[0].data == found.scores[0].data == os.fsdecode(b"caf\xe9")
