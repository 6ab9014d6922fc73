"""group_lasso on toys: the proximal step, who goes, that removal changes nothing, that it learns, killed, resumed."""

import json
from dataclasses import replace
from itertools import product

import pytest
import torch

import sottovoce
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import next_tokens
from sottovoce.methods import find
from sottovoce.methods import group_lasso as module
from sottovoce.methods.prune_width import leave_out
from sottovoce.models.widths import count_of
from sottovoce.numbers.leaving_out import best_kept
from sottovoce.numbers.trimmed_lasso import even_threshold, shortened, steps_left
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from sottovoce.training.group_lasso import Groups, ReaderLatent
from sottovoce.training.latent import PartsLatent
from sottovoce.training.state import TrainingFolder
from tests.compressing.test_unfinished import Killed, dying, left
from tests.conftest import WRITING
from tests.methods.samples import noise
from tests.reference import group_lasso as slow
from tests.tiers import one_fast, slow_ones

QUICK = {"batch": 4, "precision": "fp32", "held_out": 0, "checks": 1, "learning_rate": 0.003, "epochs": 2}
HALF = {"heads": 1, "neurons": 0.25, "multiple_of": 16}
whisper_first = pytest.mark.parametrize("name", ["whisper", *slow_ones("moonshine")])
moonshine_first = pytest.mark.parametrize("name", ["moonshine", *slow_ones("whisper")])


def compressed(folder, step, material):
    target = find_target(folder)
    model, layers = target.open()
    recipe = read_recipe({"steps": [{"group_lasso": step}]})
    compress_layers(model, layers, select(recipe, target.layout()), material)
    return model, layers


def groups_of(model, layers, inner):
    latents = {name: PartsLatent(layers[name]) for name in inner.writers}
    return Groups(model, inner, {**latents, inner.reader: ReaderLatent(layers[inner.reader], inner)})


# --- the proximal step ----------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.05, 0.6, 5.0])
@pytest.mark.parametrize("stay", [0, 2, 6])
def test_the_step_is_the_proximal_one(stay, threshold):
    norms = torch.tensor([0.7, 1.9, 0.02, 1.1, 0.65, 1.3])
    found = shortened(norms, stay, threshold)
    assert found.tolist() == pytest.approx(slow.shortened(norms.tolist(), stay, threshold), abs=2e-3)
    assert (found[norms <= threshold].count_nonzero() == 0) or stay


def test_a_group_of_zeros_and_equal_ones_give_no_nan():
    assert shortened(torch.zeros(3), 1, 0.0).tolist() == [1, 0, 0]
    assert shortened(torch.ones(3), 2, 1.0).tolist() == [1, 1, 0]
    assert even_threshold(torch.zeros(3), 1, 4) == 0


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_all_that_leave_are_zero_in_as_many_steps_as_there_are_and_not_before(steps):
    norms = noise(20, seed=3).abs() + 0.1
    start = norms.clone()
    for step in range(steps):
        assert (norms == 0).sum() < 8
        norms = norms * shortened(norms, 12, even_threshold(norms, 12, steps_left(step, steps, 1.0)))
    stay = best_kept(start, 12)
    assert torch.equal(norms[stay], start[stay])
    assert (norms == 0).sum() == 8


def test_the_steps_left_are_those_of_a_share_of_the_training():
    assert [steps_left(step, 10, 0.35) for step in range(6)] == [4, 3, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "inner_name"),
    [
        ("moonshine", "decoder.layers.0.mlp.fc1"),
        ("whisper", "encoder.layers.1.fc1"),
        ("whisper", "decoder.layers.0.encoder_attn"),
    ],
)
def test_a_group_is_its_rows_their_biases_and_its_columns(name, inner_name, toy):
    model, layers = find_target(toy(name)).open()
    [inner] = [each for each in model.inner if each.name == inner_name]
    for writer in inner.writers:
        if (bias := model.find(writer).bias) is not None:
            bias.data = noise(len(bias), seed=9)
    groups, asked = groups_of(model, layers, inner), [0, 1]
    weights = {each: layers[each].target for each in inner.layers}
    weights |= {f"{each}.bias": model.find(each).bias for each in inner.writers if model.find(each).bias is not None}
    rows = [set(inner.rows(torch.tensor([g]), groups.count).tolist()) for g in asked]
    columns = [set(inner.columns(torch.tensor([g])).tolist()) for g in asked]
    expected = slow.norms(weights, dict.fromkeys(weights, rows), (inner.reader, columns))
    assert groups.norms()[asked].tolist() == pytest.approx(expected, rel=1e-5)
    assert any("bias" in each for each in weights)
    factors = torch.ones(groups.count).index_fill(0, torch.tensor([1]), 0.5)
    before = groups.norms()
    groups.multiply(factors)
    torch.testing.assert_close(groups.norms(), before * factors)


# --- what goes ------------------------------------------------------------------------------------


class Watched:
    """What a toy was when the training was over and nothing had been removed."""

    def __init__(self, monkeypatch, clips):
        self.clips, self.logits, self.zero, self.kept = clips, None, {}, {}
        monkeypatch.setattr(module, "leave_out", self.leave_out)

    def leave_out(self, model, layers, inner, kept, *rest):
        if self.logits is None:
            self.logits = [next_tokens(model, clip) for clip in self.clips]
        count = count_of(model, inner)
        columns = layers[inner.reader].weight.dense().reshape(-1, count, inner.channels)
        zero = (columns == 0).all(0).all(1)
        self.zero[inner.name] = set(zero.nonzero().flatten().tolist())
        self.kept[inner.name] = set(range(count)) - set(kept.tolist())
        for place in self.kept[inner.name]:
            rows = inner.rows(torch.tensor([place]), count)
            for name in inner.writers:
                assert not layers[name].weight.dense()[rows].any(), name
                assert model.find(name).bias is None or not model.find(name).bias[rows].any(), name
        leave_out(model, layers, inner, kept, *rest)


ZEROED = [("whisper", "stack"), ("moonshine", "block")]
ZEROED += slow_ones(*(pair for pair in product(WRITING, ["block", "stack"]) if pair not in ZEROED))


@pytest.mark.parametrize("pair", ZEROED, ids=" over ".join)
def test_what_is_zero_behind_the_training_is_what_goes_and_is_not_missed(pair, toy, clips, material, monkeypatch):
    name, over = pair
    seen = Watched(monkeypatch, clips(name))
    model, layers = compressed(toy(name), {**QUICK, **HALF, "over": over}, material(name))
    assert seen.zero == seen.kept
    for clip, expected in zip(clips(name), seen.logits, strict=True):
        torch.testing.assert_close(next_tokens(model, clip), expected, atol=1e-5, rtol=1e-5)
    kinds = ("heads", "neurons")
    heads, neurons = ([count_of(model, each) for each in model.inner if each.kind == kind] for kind in kinds)
    assert set(heads) == {1}
    assert sum(neurons) == 4 * 48
    assert {count % 16 for count in neurons} == {0}
    assert over == "stack" or set(neurons) == {48}
    for name_, layer in layers.items():
        assert torch.equal(model.find(name_).weight.reshape(layer.target.shape), layer.weight.dense())
        assert torch.equal(layer.target, layer.weight.dense())


@pytest.mark.parametrize(("importance", "name"), one_fast(["wanda", "taylor"], ["moonshine", "whisper"]))
def test_a_training_that_only_does_harm_ends_where_prune_width_does(name, importance, toy, clips, material):
    # one MLP, for prune_width judges each behind those that it has narrowed
    alone = {"neurons": 0.25, "multiple_of": 16, "importance": importance, "where": "encoder.layers.0.*"}
    model, _ = compressed(toy(name), {**QUICK, **alone, "held_out": 0.25, "learning_rate": 300.0}, material(name))
    pruned = {"prune_width": {**alone, "compensate": False}}
    expected, layers = find_target(toy(name)).open()
    selection = select(read_recipe({"steps": [pruned]}), find_target(toy(name)).layout())
    compress_layers(expected, layers, selection, Material(clips(name)))
    assert same_state(model, expected)


@moonshine_first
def test_without_calibration_it_begins_at_the_smallest_norms(name, toy, material):
    step = {**QUICK, **HALF, "held_out": 0.25, "learning_rate": 300.0, "importance": "norm"}
    model, _ = compressed(toy(name), step, replace(material(name), clips=()))
    expected, layers = find_target(toy(name)).open()
    for inner in expected.inner:
        kept = best_kept(groups_of(expected, layers, inner).norms(), 1 if inner.kind == "heads" else 48)
        leave_out(expected, layers, inner, kept, None, 0.0)
    assert same_state(model, expected)


def same_state(one, other):
    states = one.module.state_dict(), other.module.state_dict()
    return all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())


@whisper_first
def test_what_is_held_out_is_imitated_better_than_with_the_smallest_norms_left_out(name, toy, material):
    step = {**QUICK, **HALF, "held_out": 0.25, "epochs": 8, "augment": False, "patience": 99}
    given = material(name)
    compressed(toy(name), step, given)
    curve = TrainingFolder(given.training.folder / "step-0").curve()
    held_out = [line["held_out"] for line in curve if "held_out" in line]
    assert min(held_out) < 0.9 * held_out[0]


# --- killed and asked again -----------------------------------------------------------------------

RECIPE = {"steps": [{"group_lasso": {**QUICK, **HALF, "batch": 2, "held_out": 0.25}}, "rtn"]}


@whisper_first
@pytest.mark.slow
def test_a_compression_that_died_in_any_step_is_the_same_artifact(name, toy, speech, lessons, tmp_path):
    def compress(output, **changes):
        asked = {"recipe": RECIPE, "data": speech, "limit": 3, "train": lessons(name), **changes}
        return sottovoce.compress(toy(name), output=tmp_path / output, **asked)

    whole = compress("whole")
    assert whole.bytes == whole.predicted_bytes()
    widths = json.loads((whole.folder / "config.json").read_text())["sottovoce"]["widths"]
    assert set(widths.values()) == {1}
    for step in (2, 4):  # the second comes to a state, after 3 of 6 steps
        with pytest.raises(Killed):
            compress("a", track=dying(0, step))
        torch.manual_seed(99)  # what another process would have drawn
    compress("a")
    assert left(tmp_path / "a") == left(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_it_is_exported_to_onnx(name, toy, speech, lessons, tmp_path):
    asked = {"recipe": RECIPE, "data": speech, "limit": 3, "train": lessons(name)}
    made = sottovoce.compress(toy(name), output=tmp_path / "a", **asked)
    assert sottovoce.export(made.folder, to="onnx", output=tmp_path / "onnx", threads=1).tested.passed


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["group_lasso"], "group_lasso leaves nothing out; heads: 1, or neurons: 0.25, would work"),
        ([{"group_lasso": {"neurons": 1.0}}], "neurons=1.0"),
        ([{"group_lasso": {"neurons": -0.25}}], "neurons=-0.25"),
        ([{"group_lasso": {"heads": 2}}], "heads: 2 leaves none of the 2 of .*; at most 1 would work"),
        ([{"group_lasso": {"neurons": 0.1}}], "neurons: 0.1 takes none of the 64 .*multiple of 32"),
        ([{"group_lasso": {"neurons": 0.5, "zero_by": 0}}], "zero_by=0: should be greater than 0"),
        ([{"group_lasso": {"neurons": 0.5, "zero_by": 1.1}}], "zero_by=1.1: should be less than or equal to 1"),
        ([{"group_lasso": {"neurons": 0.5, "where": "*.fc1"}}], "and where leaves out encoder.layers.0.*fc2"),
        ([{"group_lasso": {"neurons": 0.5, "learning_rate": "auto"}}], "in which nothing would go to zero; 0.0001"),
        ([{"group_lasso": {"neurons": 0.5, "encoder": 0, "logits": 0}}], "so there is nothing to learn"),
        (["wanda", {"group_lasso": {"neurons": 0.5}}], "changes the structure after wanda has changed .*; put group_l"),
        (["quarot", {"group_lasso": {"neurons": 0.5}}], "changes the structure after quarot"),
        (
            [{"drop_layers": {"encoder": [0]}}, {"group_lasso": {"neurons": 0.5, "hidden": 1}}],
            "drop_layers has dropped some; set hidden to 0",
        ),
    ],
)
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_what_cannot_be_trained_to_zero_is_refused_before_a_weight_is_read(name, steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), find_target(toy(name)).layout())


def test_a_model_without_a_decoder_is_refused(toy):
    with pytest.raises(ValueError, match=r"has no decoder \(CTC\), and recovery training learns from a decoder's"):
        select(read_recipe({"steps": [{"group_lasso": {"neurons": 0.5}}]}), find_target(toy("wav2vec2")).layout())


@pytest.mark.parametrize(
    "steps",
    [
        [{"drop_layers": {"encoder": [0]}}, {"group_lasso": {"heads": 1}}, {"distill": {"hidden": 0}}, "gptq"],
        [{"finetune": {}}, {"group_lasso": {"neurons": 32, "where": "decoder.mlp"}}, {"prune_width": {"heads": 1}}],
        [{"group_lasso": {"neurons": 0.5, "where": "*", "hidden": 1}}, "smoothquant", "gptq"],
    ],
)
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_an_order_that_works_is_taken(name, steps, toy):
    assert select(read_recipe({"steps": steps}), find_target(toy(name)).layout())


def test_calibration_audio_is_asked_for_only_where_it_is_looked_at():
    def needs(**options):
        return find("group_lasso").needs(find("group_lasso").options.fill("group_lasso", options))

    assert needs() == {"data", "audio"}
    assert needs(importance="norm") == {"audio"}
    assert needs(importance="norm", tokens="transcript") == {"transcripts"}


def test_importance_without_a_clip_is_refused(toy, material):
    with pytest.raises(ValueError, match="importance: wanda needs at least one calibration clip; importance: norm"):
        compressed(toy("whisper"), {**QUICK, **HALF}, replace(material("whisper"), clips=()))


def test_a_table_says_what_is_left_and_what_was_learned(toy):
    recipe = read_recipe({"steps": [{"group_lasso": {"heads": 1, "neurons": 0.5}}]})
    layout = find_target(toy("whisper")).layout()
    [told] = select(recipe, layout).structure
    [at_once] = select(read_recipe({"steps": [{"prune_width": {"heads": 1, "neurons": 0.5}}]}), layout).structure
    assert told == at_once.replace("obs", "wanda")
    assert "heads" in told
    assert find("group_lasso").words("group_lasso", recipe.steps[0].options) == {
        "recovery": "group_lasso encoder+logits 1 ep lr 0.0001",
    }
