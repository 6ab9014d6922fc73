"""Masks that are learned: gradients against differences in the slow twin, what is stored, what small problems find."""

from itertools import product

import pytest
import torch

from sottovoce.numbers.mask_choice import gumbel_noise
from sottovoce.numbers.sparsity import keep_n_of_m
from sottovoce.training.mask_latent import Annealing, MaskLatent
from sottovoce.weights.weight import Layer, Weight
from tests.methods.samples import layer_of, noise, some_weights
from tests.reference import maskllm as slow

W = some_weights(3, 8)
PRIOR = keep_n_of_m(W.abs(), 2, 4)


def annealing(regularizer=0.0, **changes):
    return Annealing(
        2, 4, **{"kappa": (100.0, 500.0), "tau": (1.0, 0.05), "seed": 0, **changes}, regularizer=regularizer
    )


def latent_of(layer, course, prior=PRIOR, **changes):
    options = {
        "number": 0,
        "strength": 3.0,
        "rate": 10.0,
        "squares": float(layer.target.square().sum()),
        "weights": False,
    }
    return MaskLatent(layer, prior, course, **{**options, **changes})


def slow_mask(logits, drawn, kappa, tau):
    """(rows, columns) of the soft masks of all groups."""
    groups = zip(logits.T.tolist(), drawn.T.tolist(), strict=True)
    return [value for group, noises in groups for value in slow.soft_mask(group, noises, 2, 4, kappa, tau)]


# --- the course -----------------------------------------------------------------------------------


def test_kappa_and_tau_go_in_a_line_from_start_towards_the_end():
    course = annealing()
    told = []
    for step in range(4):
        course.begin(step, 4)
        told.append(course.now())
    assert told == [
        (pytest.approx(kappa), pytest.approx(tau))
        for kappa, tau in ((100, 1.0), (200, 0.7625), (300, 0.525), (400, 0.2875))
    ]


def test_noise_follows_from_seed_step_and_layer_and_from_nothing_else():
    def drawn(seed, step, layer):
        course = annealing(seed=seed)
        course.begin(step, 9)
        torch.manual_seed(len(made))
        return course.noise(layer, (6, 4), torch.device("cpu"))

    made = {}
    for key in product((0, 1), (0, 1), (0, 1)):
        made[key] = drawn(*key)
        assert torch.equal(made[key], drawn(*key))
    assert len({tuple(noise.flatten().tolist()) for noise in made.values()}) == 8


# --- what is written ------------------------------------------------------------------------------


def test_outside_of_a_step_the_mask_is_the_likeliest_and_begins_as_the_prior():
    layer, course = layer_of(W), annealing()
    latent = latent_of(layer, course)
    assert torch.equal(latent.weight().mask, PRIOR)
    assert latent.weight().base is layer.weight.base
    with torch.no_grad():
        latent.parameters["logits"][:, 0] = torch.tensor([0, 0, 0, 0, 0, 1.0])
    assert latent.weight().mask[0, :4].tolist() == [False, False, True, True]
    course.begin(3, 4)
    assert latent.weight().mask is None
    course.end()
    assert latent.weight().mask is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_in_a_step_the_weight_is_that_under_the_slow_twins_soft_mask(dtype):
    layer = Layer("a", "linear", Weight(W.to(dtype)), W.to(dtype).float())
    course = annealing()
    latent = latent_of(layer, course)
    course.begin(1, 4)
    generator = torch.Generator().manual_seed(1 * 10_007)
    expected = slow_mask(latent.parameters["logits"] * 10, gumbel_noise((6, 6), generator), 200.0, 0.7625)
    found = latent.weight().dense()
    torch.testing.assert_close(found, layer.target * torch.tensor(expected).reshape(3, 8), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_learn_are_stored_in_their_dtype_and_zero_where_dropped(dtype):
    layer = Layer("a", "linear", Weight(W.to(dtype)), W.to(dtype).float())
    latent = latent_of(layer, annealing(), weights=True)
    with torch.no_grad():
        latent.parameters["base"] += 0.25
    stored = latent.weight()
    assert stored.base.dtype == dtype
    assert (stored.base[~PRIOR] == 0).all()
    torch.testing.assert_close(stored.base[PRIOR], (W.to(dtype).float() + 0.25).to(dtype)[PRIOR])
    assert torch.equal(layer.weight.base, W.to(dtype))


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", [0.0, 40.0])
@pytest.mark.parametrize("weights", [False, True], ids=["masks alone", "weights too"])
def test_gradients_are_those_of_differences_in_the_slow_twin(weights, regularizer):
    layer, course, gradient = layer_of(W), annealing(regularizer), noise(3, 8, seed=5)
    latent = latent_of(layer, course, weights=weights)
    course.begin(1, 4)
    latent.weight()
    latent.pull(gradient)
    kappa, tau = course.now()
    drawn = course.noise(0, (6, 6), torch.device("cpu"))
    moved = latent.parameters["logits"].detach().double()
    w, g = W.double().flatten().tolist(), gradient.flatten().tolist()

    def loss(values, base):
        mask = slow_mask(values * 10, drawn, kappa, tau)
        linear = sum(a * b * c for a, b, c in zip(base, mask, g, strict=True))
        # the regularizer looks at the weights, and moves the masks alone
        return linear - regularizer * 0.75 * slow.kept_share(w, mask)

    found = latent.parameters["logits"].grad.double()
    assert found.abs().max() > 0.01
    for k, group in product(range(6), range(6)):
        step = torch.zeros_like(moved)
        step[k, group] = 1e-7
        expected = (loss(moved + step, w) - loss(moved - step, w)) / 2e-7
        assert float(found[k, group]) == pytest.approx(expected, abs=1e-4 * float(found.abs().max()))
    if weights:
        mask = torch.tensor(slow_mask(moved * 10, drawn, kappa, tau)).reshape(3, 8)
        torch.testing.assert_close(latent.parameters["base"].grad, gradient * mask, atol=1e-5, rtol=1e-4)
    assert set(latent.parameters) == ({"logits", "base"} if weights else {"logits"})


def test_the_regularizer_alone_keeps_the_largest_weights_where_the_prior_says_little():
    # a weight whose soft mask is 0 is not missed by the sum of squares, so a firm prior would stay
    course = annealing(100.0)
    latent = latent_of(layer_of(W), course, prior=keep_n_of_m(-W.abs(), 2, 4), strength=1e-3)
    descend(latent, course, 400, lambda weight: torch.zeros_like(weight), rate=1e-4)
    assert torch.equal(latent.weight().mask, PRIOR)


# --- learning -------------------------------------------------------------------------------------


def descend(latent, course, steps, gradient, rate=1e-3):
    optimizer = torch.optim.AdamW(latent.parameters.values(), lr=rate, weight_decay=0.0)
    for step in range(steps):
        optimizer.zero_grad()
        course.begin(step, steps)
        latent.pull(gradient(latent.weight().dense()))
        optimizer.step()
    course.end()


def output_error(weight, x):
    return ((weight - W) @ x.T).square().sum(1)


def best_masks(x):
    """The least output error of each row under any 2:4 mask, all of them tried."""
    errors = []
    for left, right in product(slow.masks(2, 4), repeat=2):
        errors.append(output_error(W * torch.tensor([*left, *right]), x))
    return torch.stack(errors).amin(0)


@pytest.mark.parametrize("seed", [0, 1])
def test_learned_masks_leave_less_error_than_wandas_and_nearly_the_least_there_is(seed):
    x = noise(200, 8, seed=seed) @ (torch.eye(8) + 0.5 * noise(8, 8, seed=seed + 1))
    prior = keep_n_of_m(W.abs() * x.square().sum(0).sqrt(), 2, 4)
    course = annealing()
    latent = latent_of(layer_of(W), course, prior=prior)
    gram = x.T @ x / len(x)
    scale = (W @ gram * W).sum(1, keepdim=True)
    descend(latent, course, 300, lambda weight: (weight - W) @ gram / scale)
    learned, begun = (float(output_error(W * mask, x).sum()) for mask in (latent.weight().mask, prior))
    least = float(best_masks(x).sum())
    assert begun > 1.02 * least
    assert learned < 1.01 * least
