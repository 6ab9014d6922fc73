"""Clips that a model cannot use are all named; they are refused, or left out and counted."""

import json

import numpy as np
import pytest
import soundfile

import sottovoce
from sottovoce.recognition.target import find_target
from sottovoce.recognition.usable import faults, leave_out, refuse, usable
from sottovoce.speech.datasets import LeftOut, read_corpus
from tests import toys
from tests.measure.manifests import rows_at_home, write_rows

WHOLE = 32_000  # samples that the toy Whisper takes: 2 s

BAD = {
    "long.wav": r"long\.wav lasts 2\.50 s, and .* transcribes 2 s at once; cut it",
    "over.wav": r"over\.wav lasts 2\.0001 s, and .* transcribes 2 s at once; cut it",
    "damaged.flac": r"damaged\.flac is damaged or cut short",
    "missing.wav": r"audio file .*missing\.wav is missing",
    "empty.wav": r"empty\.wav is empty \(0 bytes\)",
    "wired.wav": r"wired\.wav: its 2 channels cancel each other",
    "words.wav": r"words\.wav is not audio",
}


@pytest.fixture
def mixed(tmp_path, speech):
    """Three clips that can be used, and one of each kind that cannot."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", toys.tones(40_000, rng), 16_000)
    soundfile.write(tmp_path / "over.wav", toys.tones(WHOLE + 1, rng), 16_000)
    soundfile.write(tmp_path / "damaged.flac", rng.uniform(-0.5, 0.5, 16_000), 16_000)
    whole = (tmp_path / "damaged.flac").read_bytes()
    (tmp_path / "damaged.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.wav").touch()
    voice = toys.tones(16_000, rng)
    soundfile.write(tmp_path / "wired.wav", np.stack([voice, -voice], axis=1), 16_000)
    (tmp_path / "words.wav").write_text("not audio " * 50)
    good = rows_at_home(speech)[:3]
    bad = [{"audio": name, "text": "x", "id": name} for name in BAD]
    return write_rows(tmp_path / "mixed.jsonl", [good[0], *bad[:4], good[1], *bad[4:], good[2]])


@pytest.fixture
def frontend(toy):
    return find_target(toy("whisper")).frontend


def test_all_that_cannot_be_used_are_named_in_one_refusal(mixed, frontend):
    with pytest.raises(ValueError, match="7 of the 10 clips of mixed cannot be used; --skip-unusable leaves") as caught:
        usable(read_corpus(mixed, leave_out=True), [frontend], skip=False)
    for said in BAD.values():
        assert caught.match(said)


def test_one_that_cannot_be_used_is_refused_in_one_line(mixed, frontend, tmp_path):
    rows = [json.loads(line) for line in mixed.read_text().splitlines()]
    one = write_rows(tmp_path / "one.jsonl", rows[:2])
    with pytest.raises(ValueError, match=r"long\.wav lasts 2\.50 s.*; --skip-unusable leaves it out$") as caught:
        usable(read_corpus(one, leave_out=True), [frontend], skip=False)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_is_told_and_the_rest_stays_in_its_order(mixed, frontend, speech):
    with pytest.warns(UserWarning, match="7 of the 10 clips of mixed left out:\n") as told:
        found = usable(read_corpus(mixed, leave_out=True), [frontend], skip=True)
    assert [utterance.id for utterance in found.utterances] == [row["id"] for row in rows_at_home(speech)[:3]]
    assert {clip.id for clip in found.left_out} == set(BAD)
    assert all(clip.reason in str(told[0].message) for clip in found.left_out)
    assert (len(found), found.clips) == (3, 10)


def test_a_clip_that_one_of_two_models_cannot_use_is_left_out_for_both(toy, mixed, tmp_path, speech):
    frontends = [find_target(toy(name)).frontend for name in ("whisper", "moonshine")]
    assert frontends[1].bounds.most_seconds is None
    soundfile.write(tmp_path / "short.wav", np.zeros(800), 16_000)  # of which Moonshine makes no frame
    rows = [
        *rows_at_home(speech)[:2],
        *({"audio": f"{name}.wav", "text": "", "id": name} for name in ("long", "short")),
    ]
    corpus = read_corpus(write_rows(tmp_path / "two.jsonl", rows))
    alone = [{clip.id for clip in faults(corpus, [frontend])} for frontend in frontends]
    assert alone == [{"long"}, {"short"}]
    assert {clip.id for clip in faults(corpus, frontends)} == {"long", "short"}


def test_a_set_of_which_nothing_is_left_is_refused(frontend, tmp_path):
    (tmp_path / "empty.wav").touch()
    one = write_rows(tmp_path / "one.jsonl", [{"audio": "empty.wav", "text": ""}])
    with pytest.raises(ValueError, match=r"1 of the 1 clips of one cannot be used, so nothing is left of it:\n.*empty"):
        usable(read_corpus(one, leave_out=True), [frontend], skip=True)


def test_a_set_without_such_clips_stays_as_it_is_and_nothing_is_said(frontend, speech, recwarn):
    corpus = read_corpus(speech)
    for skip in (True, False):
        assert usable(corpus, [frontend], skip=skip) == corpus
    refuse(corpus, [])
    assert leave_out(corpus, []) == corpus
    assert not recwarn.list


def test_lengths_alone_are_looked_at_where_nothing_else_is_asked_for(mixed, frontend):
    corpus = read_corpus(mixed, leave_out=True)
    assert {clip.id for clip in faults(corpus, [frontend], decoded=False)} == {"long.wav", "over.wav"}


# --- the draw -------------------------------------------------------------------------------------


def test_a_draw_counts_what_is_left_out_and_is_the_same_without_it(mixed):
    corpus = read_corpus(mixed, leave_out=True)
    assert corpus.clips == 10
    drawn = corpus.select(4, seed=3)
    assert drawn.clips == 4
    assert set(drawn.utterances) <= set(corpus.utterances)
    assert set(drawn.left_out) <= set(corpus.left_out)
    assert set(drawn.left_out) <= set(corpus.select(6, seed=3).left_out)
    with pytest.raises(ValueError, match=r"11 utterances asked of .*, which has 10; 1 to 10 work"):
        corpus.select(11, seed=0)


# --- compress -------------------------------------------------------------------------------------

LOOKING = {"steps": [{"wanda": {"where": "*.layers.*"}}]}


def test_a_compression_refuses_all_clips_that_it_cannot_calibrate_on(toy, mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("sottovoce.models.base.SpeechModel.with_weights", None)
    with pytest.raises(ValueError, match="7 of the 10 clips of mixed cannot be used"):
        sottovoce.compress(toy("whisper"), recipe=LOOKING, data=mixed, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_compression_may_leave_them_out_and_is_then_as_if_they_were_not_there(toy, mixed, tmp_path, speech):
    with pytest.warns(UserWarning, match="7 of the 10 clips of mixed left out"):
        made = sottovoce.compress(toy("whisper"), recipe=LOOKING, data=mixed, output=tmp_path / "a", skip_unusable=True)
    clean = write_rows(tmp_path / "clean.jsonl", rows_at_home(speech)[:3])
    other = sottovoce.compress(toy("whisper"), recipe=LOOKING, data=clean, output=tmp_path / "b")
    [record], [expected] = made.calibrations, other.calibrations
    assert (record["utterances"], record["left_out"], expected["left_out"]) == (3, 7, 0)
    assert record["digest"] == expected["digest"]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert "3 utterances" in card
    assert "of mixed, 7 unusable clips left out" in card


def test_training_audio_may_be_left_out_too(toy, lessons, tmp_path):
    (tmp_path / "empty.wav").touch()
    rows = [*rows_at_home(lessons("whisper")), {"audio": "empty.wav", "text": "x"}]
    mixed = write_rows(tmp_path / "lessons.jsonl", rows)
    recipe = {"steps": [{"finetune": {"epochs": 1, "batch": 4, "precision": "fp32", "held_out": 0.25, "checks": 1}}]}
    with pytest.raises(ValueError, match=r"empty\.wav is empty.*--skip-unusable leaves it out"):
        sottovoce.compress(toy("whisper"), recipe=recipe, train=mixed, output=tmp_path / "out")
    with pytest.warns(UserWarning, match=r"1 of the 9 clips of lessons left out: .*empty\.wav"):
        made = sottovoce.compress(
            toy("whisper"), recipe=recipe, train=mixed, output=tmp_path / "out", skip_unusable=True
        )
    assert [(record["utterances"], record["left_out"]) for record in made.trainings] == [(8, 1)]


def test_a_left_out_clip_says_what_it_was(mixed):
    [missing] = [clip for clip in read_corpus(mixed, leave_out=True).left_out if clip.id == "missing.wav"]
    path = mixed.parent / "missing.wav"
    reason = f"audio file {path} is missing; paths are relative to the folder of the list"
    assert missing == LeftOut("missing.wav", str(path), reason)
