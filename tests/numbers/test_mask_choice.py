import math

import pytest
import torch

from sottovoce.numbers.mask_choice import (
    all_masks,
    choice_gradient,
    choose,
    count_masks,
    gumbel_noise,
    likeliest_mask,
    prior_logits,
    soft_mask,
)
from sottovoce.numbers.sparsity import keep_n_of_m
from tests.methods.samples import noise
from tests.reference import maskllm as slow

PATTERNS = [(2, 4), (1, 4), (1, 2), (3, 4), (2, 5), (4, 8)]
every_pattern = pytest.mark.parametrize(("n", "m"), PATTERNS)
ROWS, GROUPS = 3, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_mask(n, m, seed=0):
    return keep_n_of_m(noise(ROWS, GROUPS * m, seed=seed), n, m)


@every_pattern
def test_the_masks_are_all_those_that_keep_n_of_m_in_order(n, m):
    assert [tuple(map(int, mask)) for mask in all_masks(n, m).tolist()] == slow.masks(n, m)
    assert count_masks(n, m) == len(slow.masks(n, m))


def test_the_masks_of_two_of_four_are_in_the_order_of_the_official_code():
    words = ["".join(str(int(bit)) for bit in mask) for mask in all_masks(2, 4).tolist()]
    assert words == ["1100", "1010", "1001", "0110", "0101", "0011"]


@every_pattern
def test_a_priors_logits_are_those_of_the_slow_twin_and_its_mask_is_the_likeliest(n, m):
    mask = some_mask(n, m)
    logits = prior_logits(mask, n, m, 3.0)
    groups = mask.reshape(-1, m).int().tolist()
    expected = torch.tensor([slow.prior_logits(group, n, 3.0) for group in groups]).T
    torch.testing.assert_close(logits, expected)
    assert torch.equal(likeliest_mask(logits, n, m, mask.shape[1]), mask)


@pytest.mark.parametrize(("kappa", "tau"), [(100, 4.0), (300, 0.7), (500, 0.05)])
@every_pattern
def test_a_soft_mask_is_that_of_the_slow_twin_group_by_group(n, m, kappa, tau):
    logits = 0.02 * noise(count_masks(n, m), ROWS * GROUPS)
    drawn = gumbel_noise(tuple(logits.shape), generator())
    found = soft_mask(choose(logits, drawn, kappa, tau), n, m, GROUPS * m)
    expected = [
        slow.soft_mask(logits[:, group].tolist(), drawn[:, group].tolist(), n, m, kappa, tau)
        for group in range(ROWS * GROUPS)
    ]
    torch.testing.assert_close(found.reshape(-1, m), torch.tensor(expected), atol=2e-5, rtol=0)
    torch.testing.assert_close(found.reshape(-1, m).sum(1), torch.full((ROWS * GROUPS,), float(n)))


@every_pattern
def test_the_gradient_of_the_logits_is_that_of_differences_in_the_slow_twin(n, m):
    kappa, tau, step = 50.0, 0.8, 1e-6
    logits, gradient = 0.02 * noise(count_masks(n, m), 2, seed=1), noise(1, 2 * m, seed=2)
    drawn = gumbel_noise(tuple(logits.shape), generator(3))
    found = choice_gradient(choose(logits, drawn, kappa, tau), gradient, n, m, kappa, tau)

    def loss(values, group):
        mask = slow.soft_mask(values, drawn[:, group].tolist(), n, m, kappa, tau)
        return sum(a * b for a, b in zip(mask, gradient.reshape(-1, m)[group].tolist(), strict=True))

    for group in range(2):
        start = logits[:, group].tolist()
        for k in range(len(start)):
            up, down = ([*start[:k], start[k] + sign * step, *start[k + 1 :]] for sign in (1, -1))
            expected = (loss(up, group) - loss(down, group)) / (2 * step)
            assert float(found[k, group]) == pytest.approx(expected, abs=2e-3)


def test_the_noise_is_that_of_a_gumbel_distribution():
    drawn = gumbel_noise((6, 40_000), generator()).double()
    assert drawn.isfinite().all()
    assert float(drawn.mean()) == pytest.approx(0.57722, abs=0.01)  # Euler's constant
    assert float(drawn.std()) == pytest.approx(math.pi / 6**0.5, abs=0.01)
    for at in (-1.0, 0.0, 2.0):
        assert float((drawn <= at).double().mean()) == pytest.approx(math.exp(-math.exp(-at)), abs=0.005)


def test_the_noisy_maximum_follows_the_softmax_of_the_logits():
    logits = torch.tensor([0.0, 1.0, 2.0])[:, None].expand(3, 40_000)
    hard = choose(logits, gumbel_noise((3, 40_000), generator()), 1.0, 0.01).argmax(0)
    shares = torch.bincount(hard, minlength=3) / 40_000
    torch.testing.assert_close(shares, torch.tensor([0.0, 1.0, 2.0]).softmax(0), atol=0.01, rtol=0)


def test_of_equal_logits_the_first_mask_is_the_likeliest():
    assert likeliest_mask(torch.zeros(6, 2), 2, 4, 8).int().tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]
