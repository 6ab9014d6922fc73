"""A model in training: what moves with a layer, what is left as it was."""

from fnmatch import fnmatch

import pytest
import torch
from safetensors.torch import load_file, save_file

from sottovoce.models.base import SpeechModel
from sottovoce.recognition.target import find_target
from sottovoce.training.latent import PartsLatent
from sottovoce.training.losses import Losses, Objective
from sottovoce.training.student import ModelStudent
from tests import toys
from tests.conftest import WRITING

FAMILIES = ["whisper", "moonshine"]
full_name = SpeechModel.full_name
every_family = pytest.mark.parametrize("name", FAMILIES)
every_toy = pytest.mark.parametrize("name", WRITING)
ALL = Losses(labels=1, hidden=1)


def student_of(folder, where="*", **options):
    """A student of the layers of a checkpoint that match."""
    model, layers = find_target(folder).open()
    chosen = {name: layer for name, layer in layers.items() if fnmatch(name, where)}
    return ModelStudent(model, chosen, {name: PartsLatent(layer) for name, layer in chosen.items()}, **options)


def pass_through(student, other, batch, losses=ALL):
    """One pass of training: gradients are in the parameters afterwards."""
    student.train(True)
    student.write()
    Objective(student.model, other, losses)(batch)["loss"].backward()
    student.pull()


def learn(student, other, batch):
    """One step of training, and what ends it."""
    pass_through(student, other, batch)
    with torch.no_grad():
        for parameter in student.parameters.values():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    student.write()
    student.finish()


def state(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def moved(before, after):
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def flags(model):
    module = model.module
    hooks = [m for m in module.modules() if m._forward_hooks or m._forward_pre_hooks]
    checkpointing = [m for m in module.modules() if getattr(m, "gradient_checkpointing", False)]
    gradients = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    wanted = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    return wanted, {m.training for m in module.modules()}, hooks, checkpointing, gradients


@every_toy
def test_an_untouched_student_leaves_the_model_as_it_was(name, toy):
    student = student_of(toy(name))
    before, wanted = state(student.model), flags(find_target(toy(name)).open()[0])
    student.write()
    student.finish()
    assert not moved(before, state(student.model))
    assert flags(student.model) == wanted


# A pattern, the parameters that move with it, and those of them that are no layer's weight.
WHERE = [
    ("decoder.layers.1.*", "model.decoder.layers.1.*"),
    ("encoder.layers.0.*fc1", "model.encoder.layers.0.*"),
    ("encoder.conv*", "model.encoder.*"),
]


@pytest.mark.parametrize(("where", "inside"), WHERE)
@every_family
def test_only_the_chosen_layers_move_and_the_norms_and_biases_of_their_blocks(
    name, where, inside, toy, teacher, lessons_of
):
    student = student_of(toy(name), where)
    weights = {f"{full_name(layer)}.weight" for layer in student.model.shapes}
    before = state(student.model)
    learn(student, teacher(name), lessons_of(name).of([0, 1]))
    expected = {f"{full_name(layer)}.weight" for layer in student.latents}
    expected |= {
        full
        for full in before
        if fnmatch(full, inside) and full not in weights and ("layers" in inside or ".layers." not in full)
    }
    found = moved(before, state(student.model))
    # a constant key bias cancels in softmax, up to rounding
    assert found - {full for full in expected if full.endswith("k_proj.bias")} == expected
    assert len(expected) > 2


@every_family
def test_without_the_rest_only_weights_move(name, toy, teacher, lessons_of):
    student = student_of(toy(name), "decoder.layers.*", rest=False)
    before = state(student.model)
    learn(student, teacher(name), lessons_of(name).of([0]))
    assert moved(before, state(student.model)) == {f"{full_name(layer)}.weight" for layer in student.latents}


@every_toy
def test_a_tied_head_stays_tied_and_an_own_one_its_own(name, toy, teacher, lessons_of):
    student = student_of(toy(name), "decoder.embed_tokens")
    model, before = student.model, state(student.model)
    learn(student, teacher(name), lessons_of(name).of([0]))
    assert model.tied == ("untied" not in name)
    changed = moved(before, state(model))
    norm = "model.decoder.layer_norm" if name.startswith("whisper") else "model.decoder.norm"
    assert {"model.decoder.embed_tokens.weight", f"{norm}.weight"} <= changed
    assert ("proj_out.weight" in changed) == model.tied


@every_family
def test_a_float_layer_learns_with_the_gradient_of_its_weight(name, toy, teacher, lessons_of):
    student, batch = student_of(toy(name)), lessons_of(name).of([0, 2])
    pass_through(student, teacher(name), batch)
    plain = find_target(toy(name)).open()[0]
    plain.module.requires_grad_(True).train()
    Objective(plain, teacher(name), ALL)(batch)["loss"].backward()
    expected = {full: parameter.grad for full, parameter in plain.module.named_parameters()}
    for layer, latent in student.latents.items():
        gradient = expected[f"{full_name(layer)}.weight"]
        assert torch.equal(latent.parameters["base"].grad, gradient.reshape(latent.parameters["base"].shape)), layer
        assert student.model.find(layer).weight.grad is None
    for key, parameter in student.rest.items():
        assert torch.equal(parameter.grad, expected[full_name(key)]), key


@every_family
def test_gradients_gather_over_passes(name, toy, teacher, lessons_of):
    once, twice = student_of(toy(name)), student_of(toy(name))
    batches = [lessons_of(name).of([i]) for i in (0, 1)]
    for batch in batches:
        pass_through(once, teacher(name), batch)
    twice.train(True)
    twice.write()
    for batch in batches:
        Objective(twice.model, teacher(name), ALL)(batch)["loss"].backward()
    twice.pull()
    for key, parameter in once.parameters.items():
        torch.testing.assert_close(parameter.grad, twice.parameters[key].grad, msg=key)


@every_family
def test_recomputed_activations_give_the_same_gradients_and_leave_no_trace(name, toy, teacher, lessons_of):
    batch = lessons_of(name).of([0, 3])
    wanted = flags(find_target(toy(name)).open()[0])
    kept, recomputed = (student_of(toy(name), checkpoint_activations=on) for on in (False, True))
    forwards = []
    for student in (kept, recomputed):
        block = student.model.find("encoder.layers.1")
        norm = next(m for m in block.modules() if isinstance(m, torch.nn.LayerNorm))
        hook = norm.register_forward_hook(lambda *_: forwards.append(1))
        pass_through(student, teacher(name), batch)
        hook.remove()
        forwards.append(0)
    first = forwards.index(0)
    assert len(forwards) - first - 2 == 2 * first  # every block ran once more
    for key, parameter in kept.parameters.items():
        assert torch.equal(parameter.grad, recomputed.parameters[key].grad), key
    recomputed.train(False)
    recomputed.train(True)
    recomputed.finish()
    assert flags(recomputed.model) == wanted


@every_family
def test_a_layer_that_was_frozen_learns_if_it_is_chosen_and_is_frozen_again_afterwards(name, toy, teacher, lessons_of):
    model, layers = find_target(toy(name)).open()
    weight = model.find("encoder.conv2").weight.requires_grad_(False)  # as Whisper's positions are in an artifact
    wanted = flags(model)
    student = ModelStudent(model, layers, {layer: PartsLatent(kept) for layer, kept in layers.items()})
    learn(student, teacher(name), lessons_of(name).of([0]))
    assert flags(model) == wanted
    assert not torch.equal(weight, teacher(name).find("encoder.conv2").weight)


def test_a_norm_that_was_frozen_stays_as_it_is(toy):
    model, layers = find_target(toy("whisper")).open()
    model.find("decoder.layers.0.final_layer_norm").requires_grad_(False)
    student = ModelStudent(model, layers, {name: PartsLatent(layer) for name, layer in layers.items()})
    assert "decoder.layers.1.final_layer_norm.weight" in student.rest
    assert not any(name.startswith("decoder.layers.0.final_layer_norm") for name in student.rest)


# --- norms and biases in their dtype --------------------------------------------------------------


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """A toy whose checkpoint holds float16."""
    folder = toys.write_whisper(tmp_path_factory.mktemp("halved") / "whisper")
    file = folder / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    return folder


def test_norms_and_biases_end_in_the_dtype_they_are_stored_in(halved, lessons_of):
    student = student_of(halved, "decoder.layers.*")
    before = state(student.model)
    learn(student, find_target(halved).open()[0], lessons_of("whisper").of([0]))
    after = state(student.model)
    assert any("norm" in full for full in moved(before, after))
    for full, tensor in after.items():
        assert torch.equal(tensor, tensor.half().float()), full


def test_a_norm_that_left_its_dtype_before_is_not_rounded_after(halved, lessons_of):
    model, layers = find_target(halved).open()
    norm = model.find("decoder.layers.0.final_layer_norm").weight
    with torch.no_grad():
        norm *= 1.0001  # as smoothquant does
    chosen = {name: layer for name, layer in layers.items() if name.startswith("decoder.layers.0.")}
    student = ModelStudent(model, chosen, {name: PartsLatent(layer) for name, layer in chosen.items()})
    student.write()
    before = norm.clone()
    student.finish()
    assert torch.equal(norm, before)
    assert not torch.equal(norm, norm.half().float())
