"""maskllm on toys: where it begins, what it leaves as it was, that it beats its prior, killed and asked again."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sottovoce
from sottovoce.compressing.loop import compress_layers
from sottovoce.methods import find
from sottovoce.methods.maskllm import prior_masks
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from sottovoce.training.state import TrainingFolder
from sottovoce.weights.weight import LayerShape
from tests.compressing.test_unfinished import Killed, dying, left
from tests.conftest import WRITING
from tests.tiers import in_turn, one_fast

BLOCKS = "*.layers.*"
FAMILIES = ["whisper", "moonshine"]
every_family = pytest.mark.parametrize("name", FAMILIES)
whisper_first = pytest.mark.parametrize("name", ["whisper", pytest.param("moonshine", marks=pytest.mark.slow)])
moonshine_first = pytest.mark.parametrize("name", ["moonshine", pytest.param("whisper", marks=pytest.mark.slow)])
QUICK = {"batch": 4, "precision": "fp32", "held_out": 0, "checks": 1, "learning_rate": 0.001, "epochs": 2}


def compressed(folder, steps, material):
    target = find_target(folder)
    model, layers = target.open()
    compress_layers(model, layers, select(read_recipe({"steps": steps}), target.layout()), material)
    return model, layers


def keeps(mask, n, m):
    return bool((mask.reshape(-1, m).sum(1) == n).all())


def state(model):
    return {key: tensor.clone() for key, tensor in model.module.state_dict().items()}


# --- where it begins ------------------------------------------------------------------------------


@pytest.mark.parametrize(("prior", "name"), in_turn(["magnitude", "ria", "sparsegpt", "wanda"], WRITING))
def test_it_begins_at_the_masks_that_its_prior_gives_in_a_recipe(prior, name, toy, clips):
    where = [BLOCKS, "head"]  # a tied head is its embedding
    step = {prior: {"where": where, "sparsity": "2:4"}}
    _, expected = compressed(toy(name), [step], Material(clips(name)))
    model, layers = find_target(toy(name)).open()
    before = state(model)
    chosen = {at: layer for at, layer in layers.items() if expected[at].weight.mask is not None}
    assert len(chosen) >= 32
    found = prior_masks(model, chosen, Material(clips(name)), prior, "2:4")
    assert set(found) == set(chosen)
    for at, mask in found.items():
        assert torch.equal(mask, expected[at].weight.mask), at
        assert layers[at].weight.mask is None
    assert all(torch.equal(tensor, before[key]) for key, tensor in state(model).items())


@moonshine_first
def test_a_training_that_only_does_harm_ends_at_the_prior(name, toy, material):
    step = {"prior": "magnitude", **QUICK, "held_out": 0.25, "epochs": 1, "learning_rate": 30.0, "kappa_start": 1e-3}
    _, layers = compressed(toy(name), [{"maskllm": step}], material(name))
    _, expected = compressed(toy(name), [{"magnitude": {"where": BLOCKS, "sparsity": "2:4"}}], Material())
    for at, layer in layers.items():
        assert (layer.weight.mask is None) == (".layers." not in at)
        assert layer.weight.mask is None or torch.equal(layer.weight.mask, expected[at].weight.mask), at


# --- what it changes ------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", ["2:4", "1:4", "3:8"])
@every_family
def test_masks_move_and_weights_norms_and_biases_stay(name, sparsity, toy, material):
    untouched, _ = find_target(toy(name)).open()
    before = state(untouched)
    step = {**QUICK, "sparsity": sparsity, "prior": "magnitude"}
    model, layers = compressed(toy(name), [{"maskllm": step}], material(name))
    _, prior = compressed(toy(name), [{"magnitude": {"where": BLOCKS, "sparsity": sparsity}}], Material())
    n, m = map(int, sparsity.split(":"))
    moved = 0
    for at, layer in layers.items():
        weight = before[f"{model.full_name(at)}.weight"].reshape(layer.target.shape)
        if ".layers." not in at:
            assert torch.equal(layer.weight.dense(), weight)
            continue
        assert keeps(layer.weight.mask, n, m)
        assert torch.equal(layer.weight.dense(), weight * layer.weight.mask)
        moved += int((layer.weight.mask != prior[at].weight.mask).sum())
    assert moved > 100
    named = {f"{model.full_name(at)}.weight" for at in layers}
    assert all(torch.equal(tensor, before[key]) for key, tensor in state(model).items() if key not in named)


@pytest.mark.slow
@every_family
def test_with_train_weights_kept_weights_and_norms_learn_too(name, toy, material):
    model, _ = find_target(toy(name)).open()
    before = state(model)
    model, layers = compressed(toy(name), [{"maskllm": {**QUICK, "train_weights": True}}], material(name))
    changed = {key for key, tensor in state(model).items() if not torch.equal(tensor, before[key])}
    assert any("norm" in key for key in changed)
    for at, layer in layers.items():
        if ".layers." in at:
            weight = before[f"{model.full_name(at)}.weight"].reshape(layer.target.shape)
            assert (layer.weight.dense() != weight)[layer.weight.mask].any(), at
            assert keeps(layer.weight.mask, 2, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "later",
    [
        [{"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}}],
        [{"distill": {**QUICK, "where": BLOCKS}}, {"rtn": {"bits": 4}}, {"low_rank": {"where": BLOCKS, "rank": 2}}],
    ],
    ids=["gptq", "distill, rtn, low_rank"],
)
@whisper_first
def test_masks_hold_after_later_steps_and_are_stored_in_three_bits_a_group(
    name, later, toy, material, speech, tmp_path
):
    steps = [{"maskllm": QUICK}, *later]
    _, layers = compressed(toy(name), steps, material(name))
    alone = compressed(toy(name), steps[:1], material(name, "alone"))[1]
    for at, layer in layers.items():
        if ".layers." in at:
            assert torch.equal(layer.weight.mask, alone[at].weight.mask)
            assert keeps(layer.weight.mask, 2, 4)
            assert (layer.weight.masked_base()[~layer.weight.mask] == 0).all()
    data = material(name).training
    made = sottovoce.compress(
        toy(name), recipe={"steps": steps}, output=tmp_path / "a", data=speech, limit=3, train=data.corpus.path
    )
    assert made.bytes == made.predicted_bytes()
    assert {entry.mask for entry in made.entries if ".layers." in entry.name} == {"2:4"}


# --- that it learns -------------------------------------------------------------------------------

LONG = {**QUICK, "held_out": 0.25, "epochs": 40, "augment": False, "patience": 99}
LOSSES = {
    "encoder and logits": {},
    "every block": {"hidden": 1.0},
    "the transcript": {"labels": 1.0, "encoder": 0.0, "logits": 0.0, "tokens": "transcript"},
}


@pytest.mark.parametrize(("losses", "name"), one_fast(list(LOSSES), FAMILIES))
@pytest.mark.slow
def test_learned_masks_beat_their_prior_on_what_was_held_out(losses, name, toy, material):
    step = {**LONG, **LOSSES[losses]}
    given = material(name)
    _, layers = compressed(toy(name), [{"maskllm": step}], given)
    curve = TrainingFolder(given.training.folder / "step-0").curve()
    held_out = [line["held_out"] for line in curve if "held_out" in line]
    assert min(held_out) < 0.9 * held_out[0]
    again = replace(given, training=replace(given.training, folder=given.training.folder / "again"))
    distill = {**LONG, "epochs": 0.5, **LOSSES[losses]}
    distill = {key: value for key, value in distill.items() if key in find("distill").options.names()}
    assert held_out_of(toy(name), step, layers, again, distill) == pytest.approx(min(held_out), rel=1e-4)


def held_out_of(folder, step, learned, material, distill):
    """The held-out loss of the stored masks, as another training would find it in the beginning."""
    target = find_target(folder)
    model, layers = target.open()
    for at, layer in layers.items():
        layer.weight = learned[at].weight
        model.assign(layer)
    selection = select(read_recipe({"steps": [{"distill": distill}]}), target.layout())
    compress_layers(model, layers, selection, material)
    return TrainingFolder(material.training.folder / "step-0").curve()[0]["held_out"]


# --- killed and asked again -----------------------------------------------------------------------

RECIPE = {"steps": [{"maskllm": {**QUICK, "batch": 2, "held_out": 0.25, "train_weights": True}}, "rtn"]}


@pytest.fixture
def compress(toy, speech, lessons, tmp_path):
    def run(output, name="whisper", **changes):
        asked = {"recipe": RECIPE, "data": speech, "limit": 3, "train": lessons(name), **changes}
        return sottovoce.compress(toy(name), output=tmp_path / output, **asked)

    return run


@whisper_first
@pytest.mark.slow
def test_a_compression_that_died_in_any_step_is_the_same_artifact(name, compress, tmp_path):
    compress("whole", name)
    for step in (0, 2, 4, 1):  # the third comes to a state, after 3 of 6 steps
        with pytest.raises(Killed):
            compress("a", name, track=dying(0, step))
        torch.manual_seed(99)  # what another process would have drawn
    compress("a", name)
    assert left(tmp_path / "a") == left(tmp_path / "whole")


KILLED = """
import os, signal, sys
import sottovoce
from tests.methods.test_maskllm import RECIPE

def track(items, total, what):
    for i, item in enumerate(items):
        if callable(what) and i == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

model, data, train, output = sys.argv[1:]
sottovoce.compress(model, recipe=RECIPE, output=output, data=data, limit=3, train=train, track=track)
"""


@pytest.mark.slow
def test_a_compression_whose_process_was_killed_is_the_same_artifact(compress, toy, speech, lessons, tmp_path):
    arguments = [str(part) for part in (toy("moonshine"), speech, lessons("moonshine"), tmp_path / "a")]
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=root, env={**os.environ}, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert TrainingFolder(tmp_path / "a.unfinished" / "step-0").progress().step == 3
    compress("a", "moonshine")
    compress("whole", "moonshine")
    assert left(tmp_path / "a") == left(tmp_path / "whole")


def test_a_seed_says_all(toy, material):
    def masks(folder, seed):
        torch.manual_seed(len(folder))
        step = {**QUICK, "seed": seed, "where": "decoder.*.fc?"}
        _, layers = compressed(toy("moonshine"), [{"maskllm": step}], material("moonshine", folder))
        return layers["decoder.layers.0.mlp.fc1"].weight.mask

    assert torch.equal(masks("a", 0), masks("another", 0))
    assert not torch.equal(masks("a third", 0), masks("a fourth one", 1))


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "shape", "why"),
    [
        ({}, ("linear", 8, 30), "sparsity 2:4 needs a multiple of 4 inputs, and fc1 has 30"),
        (
            {"sparsity": "8:16"},
            ("linear", 8, 32),
            "sparsity 8:16 has 12,870 masks for a group, a logit each; 100 at most",
        ),
        ({"encoder": 0, "logits": 0}, ("linear", 8, 32), "labels, encoder, logits and hidden are all 0"),
        ({}, ("embedding", 8, 32), "fc1 is an embedding that is only looked up; exclude it with where"),
        ({"sparsity": "4:8"}, ("linear", 8, 32), None),
        ({"sparsity": "1:32"}, ("linear", 8, 32), None),
    ],
)
def test_layers_that_it_cannot_mask_are_refused_before_any_work(options, shape, why):
    method = find("maskllm")
    kind, rows, columns = shape
    given = LayerShape("fc1", kind, rows, columns, multiplies=kind != "embedding")
    found = method.refuse(given, method.options.fill("maskllm", options))
    assert found is None if why is None else why in found


@pytest.mark.parametrize("value", [0.5, "0.5", "4:4", "4:2", "2", None])
def test_a_sparsity_that_is_not_n_of_m_is_refused_with_the_form_that_works(value):
    with pytest.raises(ValueError, match=r"maskllm: sparsity=.*as 2:4"):
        find("maskllm").options.fill("maskllm", {"sparsity": value})


@pytest.mark.parametrize("option", ["tau_end", "kappa_start", "prior_strength", "mask_rate"])
def test_what_must_be_above_0_is(option):
    with pytest.raises(ValueError, match=f"maskllm: {option}=0: should be greater than 0"):
        find("maskllm").options.fill("maskllm", {option: 0})


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["wanda", "maskllm"], "maskllm would overwrite what wanda wrote in .*drop one of the two"),
        (["maskllm", "wanda"], "wanda would overwrite what maskllm wrote in "),
        (["gptq", "maskllm"], r"layers\.0.* that gptq has already rounded; prune first.*\(maskllm before gptq\)"),
        (["rtn", "low_rank", "maskllm"], r"that rtn has already rounded; prune first"),
        (["maskllm", "smoothquant"], "smoothquant rescales or rotates weights that maskllm has already fixed"),
        (["quarot", "maskllm"], "imitate the residual stream .* which quarot has rotated; set encoder to 0"),
        (
            [{"drop_layers": {"encoder": [0]}}, {"maskllm": {"hidden": 1}}],
            "drop_layers has dropped some; set hidden to 0",
        ),
        (
            [{"maskllm": {"learning_rate": "auto"}}],
            r"falls with the root of the steps.* as 0\.0003 for 50, would",
        ),
        ([{"maskllm": {"where": "*"}}], "multiple of 4 inputs|only looked up"),
    ],
)
@every_family
def test_an_order_that_cannot_work_is_refused_before_a_weight_is_read(name, steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), find_target(toy(name)).layout())


@pytest.mark.parametrize(
    "steps",
    [
        ["smoothquant", "maskllm", "gptq", "low_rank", {"distill": {"hidden": 1}}],
        ["quarot", {"maskllm": {"encoder": 0}}, "gptq"],
        ["finetune", {"maskllm": {"where": "encoder.layers.*"}}, {"wanda": {"where": "decoder.layers.*"}}],
        [{"rtn": {"where": "frontend", "bits": 8}}, "maskllm"],
    ],
)
@every_family
def test_an_order_that_works_is_taken(name, steps, toy):
    assert select(read_recipe({"steps": steps}), find_target(toy(name)).layout())


def test_an_artifact_of_integers_or_masks_is_refused(toy, speech, lessons, tmp_path):
    for recipe, message in (
        ("rtn-w8", "an earlier compression has already rounded"),
        ("wanda-50", "would overwrite what an"),
    ):
        data = {} if recipe == "rtn-w8" else {"data": speech, "limit": 2}
        sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / recipe, **data)
        with pytest.raises(ValueError, match=message):
            sottovoce.compress(
                tmp_path / recipe,
                recipe={"steps": ["maskllm"]},
                output=tmp_path / "b",
                data=speech,
                train=lessons("whisper"),
            )


def test_calibration_audio_is_asked_for_only_where_the_prior_looks_at_activations():
    def needs(**options):
        return find("maskllm").needs(find("maskllm").options.fill("maskllm", options))

    assert needs() == {"data", "audio"}
    assert needs(prior="magnitude") == {"audio"}
    assert needs(prior="magnitude", tokens="transcript") == {"transcripts"}
