"""Columns left out: what each is worth, what the others take over, who goes from which list."""

import pytest
import torch

from sottovoce.numbers.leaving_out import (
    Moments,
    best_kept,
    constant_left,
    removal_errors,
    shared_budget,
    taken_over,
    written_energy,
)
from tests.methods.samples import noise, seen, some_inputs, some_weights
from tests.reference import prune_width as slow

W, X = some_weights(10, 24), some_inputs(300, 24)


def moments(x=X, about_mean=True):
    return Moments.of(seen(x).gram, x.sum(0), len(x), about_mean=about_mean)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("about_mean", [True, False])
def test_the_energy_is_what_a_group_adds_to_each_output_squared(size, about_mean):
    found = written_energy(W, moments(about_mean=about_mean), size)
    assert found.tolist() == pytest.approx(slow.energy(W, X, size), rel=1e-3)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("damp", [0.01, 0.3])
def test_what_is_kept_takes_over_as_a_least_squares_fit_would(constant, damp):
    kept = torch.tensor([0, 1, 4, 5, 6, 11, 12, 13, 20, 23])
    about = moments(about_mean=constant)
    made = taken_over(W, about, kept, damp)
    wanted, bias = slow.refit(W, X, kept, constant, damp)
    torch.testing.assert_close(made.double(), wanted, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(constant_left(W, made, about, kept).double(), bias, atol=1e-3, rtol=1e-2)


def test_with_all_kept_nothing_changes():
    everything = torch.arange(24)
    made = taken_over(W, moments(), everything, 0.01)
    torch.testing.assert_close(made, W, atol=0, rtol=1e-6)
    assert constant_left(W, made, moments(), everything).abs().max() < 1e-6


def test_what_reads_nothing_of_a_column_loses_nothing_with_it():
    w = W.clone()
    w[:, 7] = 0
    kept = torch.tensor([i for i in range(24) if i != 7])
    made = taken_over(w, moments(), kept, 0.01)
    torch.testing.assert_close(made, w[:, kept], atol=0, rtol=1e-6)


def test_a_column_that_another_repeats_is_made_up_for_in_full():
    x = X.clone()
    x[:, 3] = 2 * x[:, 9] + 1.5  # and a constant, which is the bias's
    kept = torch.tensor([i for i in range(24) if i != 3])
    about = moments(x)
    made = taken_over(W, about, kept, 1e-6)
    output = x[:, kept] @ made.T + constant_left(W, made, about, kept)
    assert (output - x @ W.T).square().mean() < 1e-4 * (x[:, 3:4] @ W[:, 3:4].T).square().mean()


@pytest.mark.parametrize(("size", "most"), [(1, 8), (4, 4)])
def test_one_after_the_other_goes_without_whom_the_best_refit_errs_least(size, most):
    errors = removal_errors(W, moments(), size, most, 0.01)
    expected = slow.one_by_one(W, X, size, most, 0.01)
    order = errors.argsort(stable=True)[:most].tolist()
    assert order == [group for group, _ in expected]
    assert int(errors.isinf().sum()) == 24 // size - most


def test_the_error_of_the_first_is_that_of_its_best_refit():
    errors = removal_errors(W, moments(), 1, 1, 0.01)
    [(first, error)] = slow.one_by_one(W, X, 1, 1, 0.01)
    assert float(errors[first]) == pytest.approx(error, rel=1e-2)


def test_of_two_columns_that_say_the_same_only_one_is_cheap():
    x = X.clone()
    x[:, 3] = x[:, 9] + 0.01 * noise(len(x), seed=9)
    errors = removal_errors(W, moments(x), 1, 12, 1e-4)
    cheap = {int(i) for i in errors.argsort()[:3]} & {3, 9}
    assert len(cheap) == 1


@pytest.mark.parametrize("size", [1, 4])
def test_inputs_that_never_fire_go_first_and_constant_ones_cost_nothing(size):
    x = X.clone()
    x[:, :4] = 0
    x[:, 4:8] = 3.0
    errors = removal_errors(W, moments(x), size, 8 // size, 1e-6)
    assert set(errors.argsort()[: 8 // size].tolist()) == set(range(8 // size))
    assert float(errors[: 8 // size].max()) < 1e-3 * float(written_energy(W, moments(x), size).max())
    assert torch.isfinite(taken_over(W, moments(x), torch.arange(4, 24), 0.01)).all()


def test_a_single_vector_is_enough_for_finite_weights():
    x = X[:1]
    assert torch.isfinite(taken_over(W, moments(x), torch.arange(12), 0.01)).all()
    assert torch.isfinite(removal_errors(W, moments(x), 4, 2, 0.01).sort().values[:2]).all()


def test_the_best_stay_in_their_order():
    assert best_kept(torch.tensor([0.3, 0.9, 0.1, 0.9, torch.inf]), 3).tolist() == [1, 3, 4]
    assert best_kept(torch.ones(4), 2).tolist() == [0, 1]


@pytest.mark.parametrize(("dropped", "multiple"), [(1, 1), (9, 1), (16, 4), (24, 8), (40, 4), (200, 4), (0, 4)])
def test_lists_that_compete_lose_their_worst_ends(dropped, multiple):
    scores = [noise(n, seed=n).abs() * scale for n, scale in ((24, 1.0), (24, 0.3), (16, 2.0))]
    stays = shared_budget(scores, dropped, multiple)
    assert stays == slow.shares([found.tolist() for found in scores], dropped, multiple)
    assert all(stay >= multiple and stay % multiple == 0 for stay in stays)
    assert sum(map(len, scores)) - sum(stays) == min(dropped, sum(map(len, scores)) - 3 * multiple)


def test_a_list_that_is_no_multiple_loses_its_odd_end_first():
    assert shared_budget([torch.arange(10.0), 100 + torch.arange(10.0)], 6, 4) == [4, 10]
