"""finetune, distill and lora from end to end on toys."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

import sottovoce
from sottovoce.compressing.loop import compress_layers
from sottovoce.models.base import SpeechModel
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.data import Material, TrainingData
from sottovoce.training.state import TrainingFolder
from sottovoce.weights.weight import Weight
from tests import toys
from tests.measure.manifests import rows_at_home, write_rows
from tests.tiers import one_fast
from tests.training.samples import assert_same_parts, parts_of

FAMILIES = ["whisper", "moonshine"]
every_family = pytest.mark.parametrize("name", FAMILIES)
whisper_first = pytest.mark.parametrize("name", ["whisper", pytest.param("moonshine", marks=pytest.mark.slow)])
moonshine_first = pytest.mark.parametrize("name", ["moonshine", pytest.param("whisper", marks=pytest.mark.slow)])
BLOCKS = "*.layers.*"
QUICK = {"batch": 4, "precision": "fp32", "held_out": 0, "checks": 1, "learning_rate": 0.02, "epochs": 2}
GRID = {"where": BLOCKS, "bits": 4, "group_size": 16, "symmetric": False}


class Trained:
    """A toy after a recipe: the parts of every layer before the last step and after, and what the model held."""

    def __init__(self, folder, steps, material):
        target = find_target(folder)
        self.model, self.layers = target.open()
        self.snapshot()
        selection = select(read_recipe({"steps": steps}), target.layout())
        last = len(list(selection.segments())) - 1

        def begun(number, model, layers):
            if number == last:
                self.snapshot()

        compress_layers(self.model, self.layers, selection, material, before=begun)
        self.after = {name: parts_of(layer.weight) for name, layer in self.layers.items()}
        self.curve = TrainingFolder(material.training.folder / f"step-{last}").curve()

    def snapshot(self):
        self.before = {name: parts_of(layer.weight) for name, layer in self.layers.items()}
        self.held = {key: tensor.clone() for key, tensor in self.model.module.state_dict().items()}

    def moved(self):
        """The tensors of the model that the last step changed."""
        return {key for key, t in self.model.module.state_dict().items() if not torch.equal(t, self.held[key])}

    def weight(self, name):
        return self.model.find(name).weight.detach().reshape(self.layers[name].target.shape)


@pytest.fixture
def lessons_for(toy, clips, lessons, tmp_path):
    """What a toy is compressed with: three clips, some lessons, a folder for what trains."""

    def of(name, count=8, corpus=None, language=None):
        corpus = corpus or read_corpus(lessons(name))
        corpus = replace(corpus, utterances=corpus.utterances[:count])
        return Material(
            clips(name),
            TrainingData(
                corpus, language, find_target(toy(name)).uncompressed, tmp_path / "state", tmp_path / "heard.jsonl"
            ),
        )

    return of


# --- masks, grids and adapters --------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.5, "2:4"])
@every_family
def test_finetune_keeps_the_zeros_of_a_mask_and_moves_what_is_kept(name, sparsity, toy, lessons_for):
    steps = [{"wanda": {"where": BLOCKS, "sparsity": sparsity}}, {"finetune": {**QUICK, "where": BLOCKS}}]
    found = Trained(toy(name), steps, lessons_for(name))
    for layer, before in found.before.items():
        after, weight = found.after[layer], found.weight(layer)
        if "mask" not in before:
            assert_same_parts(after, before)
            continue
        assert torch.equal(after["mask"], before["mask"])
        assert (weight[~after["mask"]] == 0).all()
        assert ((weight != before["base"]) & after["mask"]).any(), layer
        assert found.layers[layer].steps[-1].startswith("finetune")


@pytest.mark.parametrize("learned", [False, True], ids=["scales stay", "scales learn"])
@every_family
def test_finetune_after_gptq_ends_in_integers_on_the_grid(name, learned, toy, lessons_for):
    steps = [{"gptq": GRID}, {"finetune": {**QUICK, "where": BLOCKS, "learned_scales": learned, "learning_rate": 0.1}}]
    found = Trained(toy(name), steps, lessons_for(name))
    codes = scales = 0
    for layer, before in found.before.items():
        after = found.after[layer]
        if "codes" not in before:
            assert_same_parts(after, before)
            continue
        assert set(after) == {"codes", "scale", "zero"}
        assert torch.equal(after["zero"], before["zero"])
        assert after["scale"].dtype == before["scale"].dtype
        assert after["codes"].max() <= 15
        assert torch.equal(found.weight(layer), found.layers[layer].weight.dense())
        codes += not torch.equal(after["codes"], before["codes"])
        scales += not torch.equal(after["scale"], before["scale"])
    assert codes > 10
    assert (scales > 10) if learned else (scales == 0)


@every_family
def test_distill_by_the_encoder_alone_changes_nothing_of_the_decoder(name, toy, lessons_for):
    steps = [{"wanda": {"where": BLOCKS}}, {"distill": {**QUICK, "encoder": 1.0, "logits": 0.0}}]
    found = Trained(toy(name), steps, lessons_for(name))
    moved = found.moved()
    assert moved
    assert all(key.startswith("model.encoder.") for key in moved)
    for layer in found.layers.values():
        changed = f"{SpeechModel.full_name(layer.name)}.weight" in moved
        assert any(step.startswith("distill") for step in layer.steps) == changed, layer.name
        assert changed or not layer.name.startswith("encoder.") or "positions" in layer.name, layer.name


@moonshine_first
def test_kept_adapters_are_the_low_rank_part_beside_a_base_that_stays(name, toy, lessons_for):
    lora = {**QUICK, "where": BLOCKS, "rank": 3, "dtype": "bfloat16"}
    steps = [{"wanda": {"where": "encoder.layers.*"}}, {"gptq": GRID}, {"lora": lora}]
    found = Trained(toy(name), steps, lessons_for(name))
    adapted = [layer for layer, after in found.after.items() if "left" in after]
    assert adapted == [layer for layer in found.layers if ".layers." in layer]
    for layer in adapted:
        before, after = found.before[layer], dict(found.after[layer])
        left, right = after.pop("left"), after.pop("right")
        rows, columns = found.layers[layer].target.shape
        assert (left.shape, right.shape) == ((rows, 3), (3, columns))
        assert left.dtype == right.dtype == torch.bfloat16
        assert left.any()
        assert_same_parts(after, before)
    assert len(found.moved()) > len(adapted)  # norms too


@whisper_first
def test_adapters_come_behind_the_factors_that_were_there(name, toy, lessons_for):
    steps = ["rtn", {"low_rank": {"where": "*fc1", "rank": 2}}, {"lora": {**QUICK, "rank": 3}}]
    found = Trained(toy(name), steps, lessons_for(name))
    for layer, after in found.after.items():
        assert after["left"].shape[1] == after["right"].shape[0] == (5 if layer.endswith("fc1") else 3)
        assert torch.equal(after["codes"], found.before[layer]["codes"])


@pytest.mark.parametrize("factors", [False, True], ids=["plain", "with factors"])
@every_family
def test_merged_adapters_leave_the_parts_that_were_there_and_no_others(name, factors, toy, lessons_for):
    lora = {**QUICK, "where": BLOCKS, "rank": 3, "merge": True, "learning_rate": 0.3}
    steps = [{"wanda": {"where": "decoder.layers.*", "sparsity": "2:4"}}, {"gptq": {**GRID, "where": "*fc*"}}]
    steps += [{"low_rank": {"where": "*fc1", "rank": 2}}] if factors else []
    found = Trained(toy(name), [*steps, {"lora": lora}], lessons_for(name))
    changed = set()
    for layer, before in found.before.items():
        after = found.after[layer]
        assert set(after) == set(before)
        for part in set(after) - {"codes", "base"}:
            assert torch.equal(after[part], before[part]), (layer, part)
        for part in {"codes", "base"} & set(after):
            if not torch.equal(after[part], before[part]):
                changed.add((layer, part))
        if "mask" in after:
            assert (found.layers[layer].weight.masked_base()[~after["mask"]] == 0).all()
    assert {part for _, part in changed} == {"codes", "base"}
    assert all(".layers." in layer for layer, _ in changed)


@pytest.mark.parametrize(("earlier", "trained"), [("encoder.layers.*", False), ("encoder.*", True)])
@pytest.mark.parametrize("opened", ["checkpoint", "artifact"])
def test_sinusoids_are_trained_only_once_they_were_changed(opened, earlier, trained, toy, lessons, tmp_path):
    # transformers' module holds them fixed; one that was loaded from a checkpoint has forgotten it
    given = toy("whisper")
    if opened == "artifact":
        elsewhere = {"steps": [{"rtn": {"where": "decoder.layers.0.*"}}]}
        given = sottovoce.compress(given, recipe=elsewhere, output=tmp_path / "given").folder
    steps = [{"magnitude": {"where": earlier}}, {"distill": {**QUICK, "logits": 0.0, "where": "encoder.*"}}]
    made = sottovoce.compress(given, recipe={"steps": steps}, train=lessons("whisper"), output=tmp_path / "made")
    done = {entry.name: entry.steps for entry in made.entries}
    assert done["encoder.conv1"][-1].startswith("distill")
    assert any(step.startswith("distill") for step in done["encoder.embed_positions"]) == trained


@moonshine_first
def test_norms_stay_where_lora_is_told_to_leave_them(name, toy, lessons_for):
    steps = [{"wanda": {"where": BLOCKS}}, {"lora": {**QUICK, "where": BLOCKS, "rank": 2, "norms": False}}]
    moved = Trained(toy(name), steps, lessons_for(name)).moved()
    assert len(moved) > 10
    assert all(
        key.removeprefix("model.").removesuffix(".weight") in find_target(toy(name)).layout().shapes for key in moved
    )


# --- learning -------------------------------------------------------------------------------------

LONG = {**QUICK, "epochs": 30, "learning_rate": 0.003, "augment": False, "warmup": 0.0}


LEARNERS = [
    ("finetune", {"label_smoothing": 0.0}, 0.5),
    ("distill", {"labels": 0.5, "hidden": 1.0}, 0.6),
    ("lora", {"rank": 4, "learning_rate": 0.01}, 0.8),
    ("lora", {"rank": 4, "learning_rate": 0.01, "merge": True}, 0.8),
]


@pytest.mark.parametrize(("learner", "name"), one_fast(LEARNERS, FAMILIES))
def test_the_loss_of_a_batch_falls_when_it_is_seen_again_and_again(learner, name, toy, lessons_for):
    method, options, share = learner
    steps = [{"wanda": {"where": BLOCKS}}, {method: {**LONG, **options, "where": BLOCKS}}]
    losses = [row["loss"] for row in Trained(toy(name), steps, lessons_for(name, 2)).curve]
    assert len(losses) == 30
    assert losses[-1] < share * losses[0]


@whisper_first
def test_distill_needs_no_text(name, toy, lessons, lessons_for, tmp_path):
    rows = [{key: value for key, value in row.items() if key != "text"} for row in rows_at_home(lessons(name))]
    corpus = read_corpus(write_rows(tmp_path / "silent.jsonl", rows), need_text=False)
    steps = [{"wanda": {"where": BLOCKS}}, {"distill": QUICK}]
    silent = Trained(toy(name), steps, lessons_for(name, corpus=corpus))
    assert silent.moved()
    told = lessons_for(name)
    data = replace(told.training, folder=tmp_path / "told")
    for layer, after in Trained(toy(name), steps, replace(told, training=data)).after.items():
        assert_same_parts(after, silent.after[layer])


@moonshine_first
def test_a_seed_says_all(name, toy, lessons_for, tmp_path):
    made = []
    for run, seed in enumerate((0, 0, 1)):
        torch.manual_seed(run)
        material = lessons_for(name)
        data = replace(material.training, folder=tmp_path / f"run {run}")
        steps = ["rtn", {"lora": {**QUICK, "rank": 2, "seed": seed, "where": "decoder.layers.0.*"}}]
        made.append(
            Trained(toy(name), steps, replace(material, training=data)).after["decoder.layers.0.self_attn.q_proj"]
        )
    assert_same_parts(made[0], made[1])
    assert not torch.equal(made[0]["right"], made[2]["right"])


@whisper_first
def test_recomputed_activations_end_in_the_same_weights(name, toy, lessons_for, tmp_path, monkeypatch):
    ends, asked, enable = [], [], PreTrainedModel.gradient_checkpointing_enable

    def counted(*arguments):
        asked.append(len(ends))
        enable(*arguments)

    monkeypatch.setattr(PreTrainedModel, "gradient_checkpointing_enable", counted)
    for on in (False, True):
        data = replace(lessons_for(name).training, folder=tmp_path / f"{on}")
        steps = [{"wanda": {"where": BLOCKS}}, {"distill": {**QUICK, "hidden": 1.0, "checkpoint_activations": on}}]
        ends.append(Trained(toy(name), steps, replace(lessons_for(name), training=data)).after)
    assert set(asked) == {1}
    for layer, parts in ends[0].items():
        assert_same_parts(parts, ends[1][layer])


def test_bf16_products_train_weights_that_stay_finite(toy, lessons_for):
    found = Trained(toy("whisper"), ["rtn", {"distill": {**QUICK, "precision": "bf16"}}], lessons_for("whisper"))
    assert all(torch.isfinite(tensor).all() for tensor in found.model.module.state_dict().values())
    assert found.model.module.dtype == torch.float32


@moonshine_first
def test_a_training_that_only_does_harm_leaves_the_model_as_it_was_and_is_listed_nowhere(name, toy, lessons_for):
    options = {**QUICK, "held_out": 0.25, "learning_rate": 3.0, "where": BLOCKS, "learned_scales": True}
    found = Trained(toy(name), [{"wanda": {"where": BLOCKS}}, {"gptq": GRID}, {"distill": options}], lessons_for(name))
    held_out = [row["held_out"] for row in found.curve if "held_out" in row]
    assert len(held_out) == 3
    assert min(held_out) == held_out[0] < 0.9 * held_out[1]
    assert not found.moved()
    for layer, before in found.before.items():
        assert_same_parts(found.after[layer], before)
        assert not any(step.startswith("distill") for step in found.layers[layer].steps)


# --- the edge -------------------------------------------------------------------------------------


MASKED = {
    "floats": [{"finetune": QUICK}],
    "integers": [{"gptq": GRID}, {"finetune": {**QUICK, "learned_scales": True}}],
    "merged": [{"gptq": GRID}, {"lora": {**QUICK, "rank": 2, "merge": True, "where": BLOCKS}}],
}


@pytest.mark.parametrize(("kind", "name"), one_fast(["integers", "floats", "merged"], FAMILIES))
def test_a_layer_that_is_masked_away_stays_zero_and_the_rest_learns(name, kind, toy, lessons_for):
    gone = ["encoder.layers.1.self_attn.v_proj", "decoder.layers.0.self_attn.q_proj"]
    target = find_target(toy(name))
    model, layers = target.open()
    for layer in gone:
        layers[layer].weight = Weight(
            layers[layer].weight.base, torch.zeros_like(layers[layer].target, dtype=torch.bool)
        )
        layers[layer].settle()
        model.assign(layers[layer])
    selection = select(read_recipe({"steps": MASKED[kind]}), target.layout())
    compress_layers(model, layers, selection, lessons_for(name))
    for layer in gone:
        assert (model.find(layer).weight == 0).all()
        assert not layers[layer].weight.mask.any()
    assert all(torch.isfinite(tensor).all() for tensor in model.module.state_dict().values())
    norm = f"encoder.layers.1.{'final_layer_norm' if name == 'whisper' else 'post_attention_layernorm'}"
    assert not torch.equal(model.find(norm).weight, target.open()[0].find(norm).weight)


@every_family
def test_a_loss_that_reaches_none_of_the_chosen_layers_is_refused(name, toy, lessons_for):
    steps = [{"distill": {**QUICK, "where": "decoder.*", "encoder": 1.0, "logits": 0.0}}]
    with pytest.raises(ValueError, match=r"the encoder's output, which none of the chosen layers changes; .*where"):
        Trained(toy(name), steps, lessons_for(name))


@whisper_first
def test_an_exception_in_the_training_leaves_the_flags_of_the_model_as_they_were(name, toy, lessons_for, monkeypatch):
    def flags(model):
        wanted = {key: parameter.requires_grad for key, parameter in model.module.named_parameters()}
        hooks = [m for m in model.module.modules() if m._forward_hooks or m._forward_pre_hooks]
        checkpointing = [m for m in model.module.modules() if getattr(m, "gradient_checkpointing", False)]
        gradients = [p for p in model.module.parameters() if p.grad is not None]
        return wanted, {m.training for m in model.module.modules()}, hooks, checkpointing, gradients

    target = find_target(toy(name))
    model, layers = target.open()
    before = flags(model)

    def dying(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sottovoce.training.trainer.clip_grad_norm_", dying)
    options = {**QUICK, "where": "decoder.*", "checkpoint_activations": True, "hidden": 1.0}
    selection = select(read_recipe({"steps": [{"distill": options}]}), target.layout())
    with pytest.raises(KeyboardInterrupt):
        compress_layers(model, layers, selection, lessons_for(name))
    assert flags(model) == before


def test_transcripts_of_other_recordings_are_refused_before_a_step_is_made(toy, lessons, lessons_for, tmp_path):
    rows = rows_at_home(lessons("whisper"))
    texts = [row["text"] for row in rows]
    for row, text in zip(rows, [*texts[1:], texts[0]], strict=True):
        row["text"] = text
    corpus = read_corpus(write_rows(tmp_path / "shuffled.jsonl", rows))
    with pytest.raises(ValueError, match=r"shuffled\.jsonl: the uncompressed model finds the transcripts no likelier"):
        Trained(toy("whisper"), [{"finetune": QUICK}], lessons_for("whisper", corpus=corpus))
    assert not (tmp_path / "state" / "step-0" / "curve.jsonl").exists()


def test_a_multilingual_model_that_names_no_language_wants_one_where_the_decoder_learns(tmp_path, clips, lessons):
    folder = toys.write_whisper(tmp_path / "many")
    file = folder / "generation_config.json"
    saved = {key: value for key, value in json.loads(file.read_text()).items() if key not in ("language", "task")}
    file.write_text(json.dumps(saved))

    def trained(run, language, **options):
        data = TrainingData(
            read_corpus(lessons("whisper")),
            language,
            find_target(folder).uncompressed,
            tmp_path / run,
            tmp_path / run / "heard.jsonl",
        )
        return Trained(
            folder, [{"wanda": {"where": BLOCKS}}, {"distill": {**QUICK, **options}}], Material(clips("whisper"), data)
        )

    with pytest.raises(ValueError, match="is multilingual; name the language of the training audio"):
        trained("a", None)
    assert trained("b", "de").moved()
    assert trained("c", None, logits=0.0).moved()


# --- what trials find ----------------------------------------------------------------------------


@whisper_first
@pytest.mark.slow
def test_recover_finds_losses_and_a_rate_and_comes_nearer_to_the_teacher(name, toy, lessons_for):
    options = {"batch": 4, "precision": "fp32", "held_out": 0.25, "checks": 1, "epochs": 2, "augment": False}
    given = lessons_for(name)
    made = Trained(toy(name), [{"wanda": {"where": BLOCKS}}, {"recover": {**options, "where": BLOCKS}}], given)
    tried = json.loads((given.training.folder / "step-1" / "trials.json").read_text())
    losses = {trial.rpartition("-")[0] for trial in tried}
    assert {"logits", "encoder+logits", "logits+hidden"} == losses
    first = {trial: loss for trial, loss in tried.items() if trial.endswith("-0.0001")}
    assert len(first) == 3
    best = min(first, key=first.get).rpartition("-")[0]
    assert len([trial for trial in tried if trial.rpartition("-")[0] == best]) > 1
    assert {trial.rpartition("-")[0] for trial in set(tried) - set(first)} == {best}
    rates = {
        float(trial.removeprefix(f"{best}-")): loss for trial, loss in tried.items() if trial.startswith(f"{best}-")
    }
    assert max(line["learning_rate"] for line in made.curve if "learning_rate" in line) == pytest.approx(
        min(rates, key=rates.get), rel=0.6
    )
    held = [line["held_out"] for line in made.curve if "held_out" in line]
    assert min(held) < held[0]


def test_an_automatic_rate_without_held_out_audio_is_refused_before_the_model_opens(toy):
    steps = ["wanda", {"distill": {"learning_rate": "auto", "held_out": 0}}]
    with pytest.raises(ValueError, match="learning_rate: auto compares losses on held-out audio, and held_out is 0"):
        select(read_recipe({"steps": steps}), find_target(toy("whisper")).layout())
