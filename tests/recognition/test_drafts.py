"""Which models draft for which, and that what is written with a draft is what is written without."""

from dataclasses import replace

import numpy as np
import pytest

import sottovoce
from sottovoce.numbers.rounding import Rounding
from sottovoce.recognition.drafts import Draft
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.searches import Search
from sottovoce.speech.datasets import read_corpus
from tests import toys
from tests.conftest import FRAMES, WRITING
from tests.recognition.test_beam import Drawn

WRITE = {"whisper": toys.write_whisper, "moonshine": toys.write_moonshine}


def both_ways(original, draft, clips, ask):
    """What is found without and with a draft, a clip at a time; and the draft."""
    plain = Search(original.frontend, original.engine, original.rules)
    drafting = Draft.of(draft, original)
    features = [original.frontend.features(clip) for clip in clips]
    alone = [found for one in features for found in plain.run([one], ask)]
    return alone, replace(plain, draft=drafting).run(features, ask, drafting.features(clips)), drafting


def assert_equal(found, alone):
    for one, other in zip(found, alone, strict=True):
        assert replace(one, log_probability=None) == replace(other, log_probability=None)
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)


@pytest.mark.parametrize("name", WRITING)
def test_a_toy_writes_the_same_with_a_draft_of_other_random_weights(name, toy, speech, tmp_path):
    family, *untied = name.split()
    draft = sottovoce.load(WRITE[family](tmp_path / "draft", seed=3, **({"tied": False} if untied else {})))
    original = sottovoce.load(toy(name))
    clips = [original.read(each.audio) for each in read_corpus(speech, need_text=False).utterances[:4]]
    for draws in (draft, original):
        alone, found, drafting = both_ways(original, draws, clips, Ask(watch_loops=False))
        assert_equal(found, alone)
        assert drafting.shared == (draws is original)
        assert drafting.counts.proposed
    assert drafting.counts.accepted == drafting.counts.proposed or drafting.counts.replayed


@pytest.mark.parametrize("times", [False, True])
def test_the_built_in_whisper_writes_the_same_with_its_artifact_as_draft(artifact, times):
    original = sottovoce.load("builtin:whisper")
    clips = [original.read(each.audio) for each in read_corpus("builtin:test").utterances[:4]]
    ask = Ask(marks=original.frontend.marks if times else None)
    alone, found, drafting = both_ways(original, sottovoce.load(artifact), clips, ask)
    assert_equal(found, alone)
    assert drafting.counts.accepted > 0.8 * drafting.counts.proposed


@pytest.mark.slow
def test_an_export_for_onnx_runtime_drafts_for_torch(exported):
    original = sottovoce.load("builtin:whisper")
    clips = [original.read(each.audio) for each in read_corpus("builtin:test").utterances[:4]]
    alone, found, drafting = both_ways(original, sottovoce.load(exported.folder), clips, Ask())
    assert_equal(found, alone)
    assert not drafting.shared
    assert drafting.counts.accepted > 0.8 * drafting.counts.proposed


@pytest.mark.parametrize("model", ["builtin:whisper", "builtin:moonshine"])
def test_a_recording_is_written_the_same_with_a_draft_by_its_name(model, artifact):
    original = sottovoce.load(model)
    clips = [original.read(each.audio) for each in read_corpus("builtin:test").utterances[:3]]
    recording = np.concatenate([np.pad(clip, (0, 8_000)) for clip in clips])
    plain = original.transcribe(recording, batch=1, words=True)
    name = str(artifact) if model == "builtin:whisper" else model
    drafted = original.transcribe(recording, draft=name, words=True)
    assert [each.text for each in drafted.segments] == [each.text for each in plain.segments]
    assert [each.tokens for each in drafted.segments] == [each.tokens for each in plain.segments]
    assert [each.words for each in drafted.segments] == [each.words for each in plain.segments]
    assert drafted.text


def test_what_does_not_fit_is_refused_in_a_sentence(toy):
    whisper, moonshine = sottovoce.load(toy("whisper")), sottovoce.load(toy("moonshine"))
    with pytest.raises(ValueError, match=r"is a moonshine model and cannot draft for .*, a whisper"):
        Draft.of(moonshine, whisper)
    trimmed = sottovoce.load("builtin:whisper")
    with pytest.raises(ValueError, match="other tokens"):
        Draft.of(trimmed, whisper)
    with pytest.raises(ValueError, match="beam=2: a draft is for greedy search"):
        Draft.of(whisper, replace(whisper, beam=2))
    frames = sottovoce.load(toy(FRAMES[0]))
    with pytest.raises(ValueError, match="cannot check several tokens"):
        Draft.of(frames, frames)
    with pytest.raises(ValueError, match="cannot take back tokens"):
        Draft.of(replace(trimmed, engine=Drawn(0)), trimmed)
    shorter = replace(whisper, rules=replace(whisper.rules, most_tokens=3))
    with pytest.raises(ValueError, match="writes 3 tokens at most"):
        Draft.of(shorter, whisper)


@pytest.mark.slow
def test_an_export_for_onnx_runtime_is_refused_as_an_original(exported):
    onnx = sottovoce.load(exported.folder)
    with pytest.raises(ValueError, match="cannot check several tokens"):
        Draft.of(sottovoce.load("builtin:whisper"), onnx)


def test_an_original_that_rounds_its_activations_is_refused_and_may_draft(toy):
    sharp, coarse = sottovoce.load(toy("whisper")), sottovoce.load(toy("whisper"))
    coarse.engine.model.cached_roundings["decoder.layers.0.self_attn.v_proj"] = Rounding(4)
    with pytest.raises(ValueError, match="rounds what its decoder computes"):
        Draft.of(sharp, coarse)
    assert Draft.of(coarse, sharp).shared


def test_a_recognizer_that_opens_nothing_says_what_would_work(toy):
    original = replace(sottovoce.load(toy("whisper")), open_draft=None)
    with pytest.raises(ValueError, match=r"opens no other; sottovoce.load"):
        original.transcribe(np.zeros(16_000, np.float32), draft="other")
