import pytest
import torch

from sottovoce.blocks.rotation import folded, keeping_ones, places
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import next_tokens
from sottovoce.methods.quarot import random_orthogonal, random_turns
from sottovoce.methods.spinquant import LearnedRounding, Student, cayley_step, descend, said
from sottovoce.numbers.rounding import Rounding
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from tests.conftest import WRITING
from tests.methods.divergent import Planted, rtn
from tests.methods.samples import noise
from tests.reference import spinquant as slow

QUICK = {"steps": 3, "batch": 1, "activation_bits": 3, "learning_rate": 1.5}


def learned(folder, clips, options):
    target = find_target(folder)
    model, layers = target.open()
    recipe = read_recipe({"steps": [{"spinquant": {**QUICK, **options}}]})
    compress_layers(model, layers, select(recipe, target.layout()), Material(clips))
    return model, layers


# --- the step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 1.5, 100.0])
def test_the_step_is_the_fixed_point_that_the_official_code_iterates_to(rate):
    q, gradient = random_orthogonal(6, "random", 0), noise(6, 6, seed=1)
    expected = torch.tensor(slow.cayley(q.tolist(), gradient.tolist(), rate))
    torch.testing.assert_close(cayley_step(q, gradient, rate), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.1, 10.0])
def test_steps_stay_orthogonal_and_a_streams_keep_ones(rate):
    q = keeping_ones(random_orthogonal(36, "hadamard", 0))
    for seed in range(200):
        q = cayley_step(q, noise(36, 36, seed=seed), rate, keep_ones=True)
    ones = torch.ones(36)
    assert torch.allclose(q @ q.T, torch.eye(36), atol=1e-4)
    assert torch.allclose(q @ ones, ones, atol=1e-4)
    assert torch.allclose(ones @ q, ones, atol=1e-4)


def test_no_gradient_is_no_step():
    q = random_orthogonal(8, "random", 0)
    torch.testing.assert_close(cayley_step(q, torch.zeros(8, 8), 1.5, keep_ones=True), q)


@pytest.mark.parametrize("name", ["encoder", "heads"])
def test_descent_finds_a_turn_that_undoes_another(name):
    wanted = keeping_ones(random_orthogonal(8, "random", 3))
    start = {name: wanted @ torch.matrix_exp(0.3 * skew_that_keeps_ones(8))}
    before = float((start[name] - wanted).square().sum())

    def loss(moving, clip):
        return (moving[name] - wanted).square().sum()

    *_, last = descend(start, loss, [[0]] * 60, [0.5] * 60)
    assert float((last[name] - wanted).square().sum()) < 1e-4 * before


def skew_that_keeps_ones(width):
    a = noise(width, width, seed=9)
    a = a - a.mean(0, keepdim=True)
    a = a - a.mean(1, keepdim=True)
    return a - a.T


def test_a_gradient_that_is_not_finite_is_an_error():
    def loss(moving, clip):
        return (moving["encoder"] * torch.nan).sum()

    with pytest.raises(ValueError, match="gradient of the rotation of encoder is not finite"):
        list(descend({"encoder": torch.eye(4)}, loss, [[0]], [1.0]))


# --- rounding with gradients ----------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_learned_rounding_rounds_as_rounding_does_and_its_scale_learns(symmetric):
    x = noise(5, 12).requires_grad_()
    ours = LearnedRounding(4, "token", symmetric)(x)
    plain = Rounding(4, "token", symmetric)(x.detach())
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(LearnedRounding(4, "token", symmetric)(x.detach()), plain)
    weights = noise(5, 12, seed=1)
    (ours * weights).sum().backward()
    levels = 7 if symmetric else 15
    largest = x.detach().abs().argmax(-1) if symmetric else x.detach().argmax(-1)
    for row in range(5):
        values = x.detach()[row]
        reach = values.abs().max() if symmetric else values.max() - values.min()
        scale = reach / levels
        rest = ((plain[row] - values) / scale * weights[row]).sum() / levels
        j = int(largest[row])
        sign = values[j].sign() if symmetric else 1
        expected = weights[row].clone()
        expected[j] += sign * rest
        if not symmetric:
            expected[int(values.argmin())] -= rest
        torch.testing.assert_close(x.grad[row], expected, atol=1e-4, rtol=1e-4)


# --- in models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"weight_bits": 4, "keys": True}, {"heads": False, "online": False}], ids=str)
@pytest.mark.parametrize("name", WRITING)
@torch.no_grad()
def test_float_logits_are_as_they_were_and_the_head_stays_tied(name, options, toy, clips):
    before, _ = find_target(toy(name)).open()
    after, layers = learned(toy(name), clips(name), options)
    assert after.tied == ("untied" not in name)
    assert not any(layer.input.rounding for layer in layers.values())
    for clip in clips(name):
        expected = next_tokens(before, clip)
        assert torch.allclose(next_tokens(after, clip), expected, atol=1e-4, rtol=0)
    assert all(parameter.grad is None for parameter in after.module.parameters())


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_the_student_without_rounding_says_what_the_model_says(name, toy, clips):
    model, layers = find_target(toy(name)).open()
    wanted = [said(model, clip) for clip in clips(name)]
    start, where = folded(model, layers), places(model, heads=True, keys=False, online=True)
    turns = random_turns(model, "hadamard", 0, heads=True, keys=False, online=True)
    student = Student(model, start, where, None, None)
    with student.rounding(), torch.no_grad():
        for clip, hidden in zip(clips(name), wanted, strict=True):
            assert float(student.divergence(turns, clip, hidden)) < 1e-6
    assert not model.turns
    assert not model.paths.paths


def test_the_same_seed_learns_the_same_turns(toy, clips):
    found = [learned(toy("moonshine"), clips("moonshine"), {})[1]["encoder.layers.1.mlp.fc1"].target for _ in range(2)]
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_one_clip_is_enough(name, toy, clips):
    _, layers = learned(toy(name), clips(name)[:1], {})
    assert all(torch.isfinite(layer.target).all() for layer in layers.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_planted_outliers_cost_a_learned_turn_less_than_the_random_one_that_it_began_with(name):
    planted = Planted(name, calibration=8)
    options = {"steps": 8, "batch": 2, "kind": "random", "learning_rate": 1.5}
    plain = planted.divergence([rtn(4)], activation_bits=4)
    random = planted.divergence([{"quarot": {"kind": "random"}}, rtn(4)], activation_bits=4)
    ours = planted.divergence([{"spinquant": options}, rtn(4)], activation_bits=4)
    assert ours < random < plain
