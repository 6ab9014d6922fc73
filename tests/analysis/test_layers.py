"""Blocks by every ranking, and the capacity sweep: what is reported is that of models from which they were dropped."""

import json
import re
from xml.etree import ElementTree

import pytest

import sottovoce
from sottovoce.analysis.knee import knee
from sottovoce.analysis.layers import Capacity, Without, WordLoss, analyze_layers
from sottovoce.calibration.influence import block_changes
from sottovoce.measure.divergence import divergence
from sottovoce.recognition.target import find_target
from sottovoce.reporting.capacity import capacity_plot, write_analysis
from tests import toys


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("deep") / "whisper"
    return toys.write_whisper(made, encoder_layers=4, decoder_layers=3)


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return toys.write_speech(tmp_path_factory.mktemp("heard"), 4, seed=0, prefix="test")


@pytest.fixture(scope="module")
def analysis(folder, speech, heard):
    return analyze_layers(folder, data=speech, test=heard, limit=3, outlier=4.0)


def test_every_block_has_its_change_of_the_stream_and_its_place(analysis, folder, speech):
    model, _ = find_target(folder).open()
    names = [*model.blocks("encoder"), *model.blocks("decoder")]
    assert [block.name for block in analysis.blocks] == names
    for stack, count in (("encoder", 4), ("decoder", 3)):
        here = sorted((b for b in analysis.blocks if b.stack == stack), key=lambda block: block.place)
        assert [block.place for block in here] == list(range(count))
        losses = [block.without.divergence for block in here]
        assert losses == sorted(losses)


def test_what_is_lost_without_blocks_is_what_a_model_without_them_loses(analysis, folder, speech, heard, tmp_path):
    steps = analysis.capacities[0].steps
    assert [len(step.blocks) for step in steps] == [0, 1, 2, 3]
    assert steps[0].divergence == steps[0].bytes == steps[0].words.delta_wer == 0
    numbers = [int(name.rpartition(".")[2]) for name in steps[2].blocks]
    made = sottovoce.compress(
        folder, recipe={"steps": [{"drop_layers": {"encoder": numbers}}]}, output=tmp_path / "dropped"
    )
    scored = sottovoce.evaluate([folder, made.folder], data=heard).scores[1]
    words = steps[2].words
    assert words.wer == pytest.approx(scored.wer)
    assert (words.delta_wer, words.interval) == (scored.delta_wer, scored.delta_wer_interval)
    assert (words.empties, words.loops, words.capped) == (scored.empties, scored.loops, scored.capped)
    gone = {entry.name: entry.bytes for entry in find_target(folder).entries()}
    left = {entry.name: entry.bytes for entry in made.entries}
    assert steps[2].bytes == sum(gone.values()) - sum(left.values())


def test_the_divergences_and_statistics_are_those_of_the_calibration_clips(folder, speech):
    from sottovoce.calibration.clips import calibrate
    from sottovoce.compressing.compress import read_calibration

    found = analyze_layers(folder, data=speech, limit=3, rank_by="mse", outlier=4.0)
    model, _ = find_target(folder).open()
    clips = calibrate(model, read_calibration(speech, 3, 0, model.frontend)).clips
    assert {block.name: block.change for block in found.blocks} == block_changes(model, clips, 4.0)
    for block in found.blocks[1::3]:
        dropped, _ = find_target(folder).open()
        dropped.drop_blocks([block.name])
        assert block.without.divergence == pytest.approx(divergence(dropped, model, clips), rel=1e-6)
    for capacity in found.capacities:
        order = sorted(
            (block for block in found.blocks if block.stack == capacity.stack), key=lambda block: block.change.mse
        )
        assert capacity.steps[-1].blocks == tuple(block.name for block in order[:-1])
        assert capacity.steps[-1].words is None


def capacity_of(divergences, wers=None):
    words = [None if wers is None else WordLoss(wer, 0.0, (0.0, 0.0), "worse", 0, 0, 0) for wer in wers or divergences]
    steps = [Without((), 0, kl, word) for kl, word in zip(divergences, words, strict=True)]
    return Capacity("decoder", tuple(steps), 0)


def test_the_knee_does_not_move_with_how_far_a_broken_model_goes():
    # moonshine-tiny's decoder: without one block it says the same, without three it is broken
    losses = capacity_of([0, 0.055, 0.54, 2.6, 8.7, 11.2]).losses
    assert losses[1] == pytest.approx(0.0535, abs=1e-3)
    assert knee(losses) == knee(capacity_of([0, 0.055, 0.54, 2.6, 30.0, 50.0]).losses) == 1
    assert knee(capacity_of([0] * 5, [6.7, 9.0, 20.0, 100.0, 340.0]).losses) == 2  # where the WER was measured, by it


@pytest.mark.parametrize("name", ["moonshine", "wav2vec2"])
def test_every_family_has_a_sweep_for_each_of_its_stacks(name, toy, speech):
    found = analyze_layers(toy(name), data=speech, limit=2, rank_by="influence")
    model = find_target(toy(name)).layout()
    assert [(c.stack, len(c.steps)) for c in found.capacities] == [(s, len(model.blocks(s))) for s in model.depth]


def test_an_artifact_is_analysed_as_it_is(toy, speech, tmp_path):
    sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=tmp_path / "out")
    found = analyze_layers(tmp_path / "out", data=speech, limit=2)
    assert (
        found.capacities[0].steps[1].bytes
        < analyze_layers(toy("whisper"), data=speech, limit=2).capacities[0].steps[1].bytes
    )


def test_the_picture_has_a_point_for_each_step_and_one_knee_for_each_panel(analysis, tmp_path):
    drawn = capacity_plot(analysis)
    tree = ElementTree.fromstring(drawn)
    circles = [element for element in tree.iter() if element.tag.endswith("circle")]
    assert len(circles) == 2 * (4 + 3)  # the divergence, and the WER
    assert sum("front" in circle.get("class") for circle in circles) == 4
    assert drawn.count(">knee<") == 4
    told = re.findall(r"without ([\w., ]+): KL in nats a token ([\d.e+-]+)", drawn)
    steps = [step for capacity in analysis.capacities for step in capacity.steps]
    assert [(", ".join(step.blocks) or "none", f"{step.divergence:.4g}") for step in steps] == told
    files = write_analysis(analysis, tmp_path / "new")
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(analysis.as_document()))
    assert files[1].read_text() == drawn
    assert write_analysis(analysis, tmp_path / "new") == files  # an older one is replaced


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank_by": "wer"}, "rank_by: wer needs a test set with transcripts"),
        ({"rank_by": "kl"}, "value of rank_by 'kl'"),
        ({"outlier": 0.0}, "a magnitude above 0, found 0"),
        ({"batch_size": 0}, "at least 1, found 0"),
        ({"device": "gpu"}, "gpu"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_analysed_is_refused(options, message, toy, speech):
    with pytest.raises(ValueError, match=message):
        analyze_layers(toy("whisper"), **{"data": speech, **options})


def test_a_test_set_that_is_calibrated_on_is_refused(toy, speech):
    with pytest.raises(ValueError, match=r"in the calibration data .* too; a test set must be disjoint"):
        analyze_layers(toy("whisper"), data=speech, test=speech, limit=2)
