"""Losses: against transformers, against plain floats, and what does not count."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sottovoce.recognition.target import find_target
from sottovoce.training.batch import IGNORED, Batch
from sottovoce.training.losses import Losses, Objective, blocks, divergence, relative_error
from tests import toys
from tests.methods.samples import noise
from tests.reference import losses as slow

FAMILIES = ["whisper", "moonshine"]
every_family = pytest.mark.parametrize("name", FAMILIES)
ALL = {"labels": 1.0, "encoder": 0.5, "logits": 2.0, "hidden": 0.25}


@pytest.fixture(scope="module")
def student(toy):
    """A toy whose weights are a little off its teacher's, by name; a copy each time."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = find_target(toy(name)).open()[0]
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in made[name].module.parameters():
                    parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        return made[name]

    return of


@torch.no_grad()
def alone(model, batch, i):
    """One utterance in transformers' own forward: memory, logits and the outputs of all blocks as plain floats."""
    kept = []
    hooks = [
        block.register_forward_hook(
            lambda module, inputs, output: kept.append(output if isinstance(output, torch.Tensor) else output[0])
        )
        for block in blocks(model)
    ]
    features = {model.module.main_input_name: batch.features[i]}
    out = model.module(**features, decoder_input_ids=batch.inputs[i][None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return out.encoder_last_hidden_state[0].double(), out.logits[0].double(), [states[0].double() for states in kept]


def padded(batch, count):
    """The same utterances with `count` more positions of padding."""
    end = batch.inputs[0, -1].item()
    more = torch.full((len(batch), count), end)
    return replace(
        batch,
        inputs=torch.cat([batch.inputs, more], 1),
        labels=torch.cat([batch.labels, torch.full_like(more, IGNORED)], 1),
    )


@torch.no_grad()
def values(model, other, batch, **weights):
    return {name: float(loss) for name, loss in Objective(model, other, Losses(**weights))(batch).items()}


# --- against others -------------------------------------------------------------------------------


@every_family
def test_the_cross_entropy_is_the_loss_of_transformers(name, student, lessons_of):
    model, batch = student(name), lessons_of(name).of([0])
    features = {model.module.main_input_name: batch.features[0]}
    with torch.no_grad():
        expected = model.module(**features, decoder_input_ids=batch.inputs, labels=batch.labels).loss
    found = values(model, None, batch, labels=1.0)
    assert found == {"loss": pytest.approx(float(expected), rel=1e-5), "labels": found["loss"]}


@every_family
def test_the_losses_of_a_batch_are_those_of_its_utterances_one_by_one(name, student, teacher, lessons_of):
    model, other = student(name), teacher(name)
    batch = lessons_of(name).of([0, 3, 5])
    ours, theirs = ([alone(m, batch, i) for i in range(3)] for m in (model, other))
    memory, logits, hidden = zip(*ours, strict=True)
    wanted, wanted_logits, wanted_hidden = zip(*theirs, strict=True)
    labels = batch.labels.tolist()
    found = values(model, other, batch, **ALL, temperature=1.5)
    assert found["labels"] == pytest.approx(
        slow.cross_entropy([row.tolist() for row in logits], labels, IGNORED, 0.0), rel=1e-4
    )
    tables = [row.tolist() for row in logits], [row.tolist() for row in wanted_logits]
    assert found["logits"] == pytest.approx(slow.divergence(*tables, labels, IGNORED, 1.5), rel=1e-3)
    assert found["encoder"] == pytest.approx(error(memory, wanted), rel=1e-3)
    counted = batch.labels != IGNORED
    first_decoder = len(other.module.model.encoder.layers)
    errors = []
    for block in range(len(blocks(model))):
        kept = counted if block >= first_decoder else [slice(None)] * 3
        pairs = [[clip[block][kept[i]] for i, clip in enumerate(found_)] for found_ in (hidden, wanted_hidden)]
        errors.append(error(*pairs))
    assert found["hidden"] == pytest.approx(sum(errors) / len(errors), rel=1e-3)
    assert found["loss"] == pytest.approx(sum(ALL[loss] * found[loss] for loss in ALL), rel=1e-5)


def error(student, teacher):
    """Over the positions of all clips together."""
    return slow.relative_error(*([row for clip in clips for row in clip.tolist()] for clips in (student, teacher)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_is_the_slow_one(temperature):
    student, teacher = 3 * noise(2, 4, 7), 3 * noise(2, 4, 7, seed=1)
    labels = torch.tensor([[IGNORED, 1, 2, IGNORED], [0, 1, IGNORED, IGNORED]])
    found = divergence(student, teacher, labels, temperature)
    expected = slow.divergence(student.tolist(), teacher.tolist(), labels.tolist(), IGNORED, temperature)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_relative_error_is_the_slow_one_and_one_for_the_teachers_mean():
    student, teacher = noise(2, 5, 3), 2 + noise(2, 5, 3, seed=1)
    valid = torch.arange(5)[None] < torch.tensor([[5], [2]])
    expected = slow.relative_error(student[valid].tolist(), teacher[valid].tolist())
    assert float(relative_error(student, teacher, valid)) == pytest.approx(expected, rel=1e-5)
    mean = teacher[valid].mean(0).expand(teacher.shape)
    assert float(relative_error(mean, teacher, valid)) == pytest.approx(1.0, rel=1e-5)


@every_family
def test_the_held_out_loss_is_the_one_that_is_learned_smoothed_labels_and_all(name, student, lessons_of):
    # without, a model that is sure looked best before its first step, and finetune gave it back as it came
    model, batch = deepcopy(student(name)), lessons_of(name).of([1])
    _, logits, _ = alone(model, batch, 0)
    expected = slow.cross_entropy([logits.tolist()], batch.labels.tolist(), IGNORED, 0.2)
    for training in (True, False):
        model.module.train(training)
        assert values(model, None, batch, labels=1, label_smoothing=0.2)["loss"] == pytest.approx(expected, rel=1e-4)


# --- what does not count --------------------------------------------------------------------------


@every_family
def test_padding_changes_nothing(name, student, teacher, lessons_of):
    batch = lessons_of(name).of([0, 1, 2])
    before = values(student(name), teacher(name), batch, **ALL)
    after = values(student(name), teacher(name), padded(batch, 4), **ALL)
    assert set(before) == {"loss", *ALL}
    assert after == pytest.approx(before, rel=1e-5)


@every_family
def test_a_teacher_has_nothing_to_teach_itself(name, teacher, lessons_of):
    batch = lessons_of(name).of([0, 1, 2])
    found = values(teacher(name), teacher(name), batch, encoder=1, logits=1, hidden=1)
    assert found == {"loss": 0.0, "encoder": 0.0, "logits": 0.0, "hidden": 0.0}


@every_family
def test_a_loss_without_weight_runs_nothing(name, student, lessons_of, teacher, monkeypatch):
    model = student(name)

    def ran(*arguments, **keywords):
        raise AssertionError("the decoder ran")

    monkeypatch.setattr(model.module.model.decoder, "forward", ran)
    batch = Batch(("a",), lessons_of(name).of([0]).features, torch.zeros(1, 0), torch.zeros(1, 0))
    assert set(values(model, teacher(name), batch, encoder=1.0)) == {"loss", "encoder"}


# --- gradients ------------------------------------------------------------------------------------


@every_family
def test_every_loss_reaches_the_encoder_and_none_the_teacher(name, student, toy, lessons_of):
    model, other = student(name), find_target(toy(name)).open()[0]
    batch = lessons_of(name).of([0, 1])
    weight = model.find("encoder.layers.0.self_attn.q_proj").weight
    for loss in ALL:
        Objective(model, other, Losses(**{loss: 1.0}))(batch)["loss"].backward()
        assert weight.grad.abs().max() > 0, loss
        model.module.zero_grad()
    assert all(parameter.grad is None for parameter in other.module.parameters())


def test_no_hook_stays_behind(teacher, lessons_of, monkeypatch):
    model = teacher("whisper")
    values(model, model, lessons_of("whisper").of([0]), hidden=1)
    monkeypatch.setattr(nn.Embedding, "forward", None)
    with pytest.raises(TypeError):
        values(model, model, lessons_of("whisper").of([0]), hidden=1)
    assert not any(block._forward_hooks for block in blocks(model))


def test_blocks_of_another_number_cannot_be_compared(teacher, tmp_path):
    short = find_target(toys.write_whisper(tmp_path / "short", decoder_layers=1)).open()[0]
    with pytest.raises(ValueError, match="has 3 blocks and its teacher 4; leave hidden at 0"):
        Objective(short, teacher("whisper"), Losses(hidden=1.0))
    Objective(short, teacher("whisper"), Losses(encoder=1.0))
