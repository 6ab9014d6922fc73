import jiwer
import pytest

import sottovoce
from sottovoce.speech.text import normalizer
from tests.measure.manifests import rows_of


def errors(text, reference):
    told = jiwer.process_words(normalizer("whisper-english")(reference), normalizer("whisper-english")(text))
    return told.substitutions + told.deletions + told.insertions


@pytest.fixture(scope="module")
def lost(run, rough, toy):
    """Errors that the rough model makes more than its base, for each utterance, counted by jiwer."""
    found = {}
    for target in (rough, toy("whisper")):
        [file] = (run / "transcripts").glob(f"{target.name}-*/*.jsonl")
        for row in rows_of(file):
            found.setdefault(row["id"], []).append(errors(row["hypothesis"], row["reference"]))
    return {id_: after - before for id_, (after, before) in found.items()}


def test_the_difference_is_the_one_that_the_scores_say(run, rough, toy):
    small, base = sottovoce.rescore(run).scores
    [found] = sottovoce.compare(run)
    assert (found.target, found.baseline, found.data) == (str(rough), str(toy("whisper")), "test")
    assert (found.wer, found.baseline_wer) == (small.wer, base.wer)
    assert (found.difference, found.interval) == (small.delta_wer, small.delta_wer_interval)
    assert (found.verdict, found.resampled) == (small.verdict, small.resampled)
    assert (found.bytes, found.baseline_bytes) == (small.bytes, base.bytes)
    assert found.loops == small.loops - base.loops
    assert found.empties == small.empties - base.empties
    assert found.capped == small.capped - base.capped


def test_better_worse_and_equal_are_counted_by_utterance(run, lost):
    [found] = sottovoce.compare(run)
    assert found.better == sum(more < 0 for more in lost.values())
    assert found.worse == sum(more > 0 for more in lost.values())
    assert found.equal == sum(more == 0 for more in lost.values())
    assert found.worse > 0


def test_examples_are_those_that_lost_most_with_their_raw_texts(run, lost, heard, rough, toy):
    [found] = sottovoce.compare(run)
    worst = sorted((-more, id_) for id_, more in lost.items() if more > 0)[:5]
    assert [(-e.more_errors, e.id) for e in found.examples] == worst
    texts = {row["id"]: row for row in rows_of(heard)}
    for example in found.examples:
        clip = heard.parent / texts[example.id]["audio"]
        assert example.reference == texts[example.id]["text"]
        assert example.hypothesis == sottovoce.load(rough).transcribe_clips(clip)
        assert example.baseline == sottovoce.load(toy("whisper")).transcribe_clips(clip)


def test_a_baseline_is_found_by_the_last_part_of_its_name(run, toy):
    assert sottovoce.compare(run, baseline="whisper") == sottovoce.compare(run, baseline=toy("whisper"))
    assert sottovoce.compare(run, baseline="whisper/") == sottovoce.compare(run)


def test_any_target_can_be_the_baseline(run, rough):
    [there], [back] = sottovoce.compare(run), sottovoce.compare(run, baseline=rough)
    assert back.difference == pytest.approx(-there.difference)
    assert (back.better, back.worse, back.equal) == (there.worse, there.better, there.equal)


def test_an_unknown_baseline_names_those_there_are(run, rough, toy):
    with pytest.raises(ValueError, match=f"'moonshine'; there are {rough}, {toy('whisper')}"):
        sottovoce.compare(run, baseline="moonshine")


def test_one_target_alone_is_nothing_to_compare(toy, heard, tmp_path):
    sottovoce.evaluate(toy("whisper"), data=heard, limit=2, output=tmp_path)
    with pytest.raises(ValueError, match=f"no two targets to compare .found {toy('whisper')}.*uncompressed"):
        sottovoce.compare(tmp_path)
