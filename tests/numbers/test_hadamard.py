import pytest
import torch

from sottovoce.numbers.hadamard import hadamard, hadamard_keeping_ones, prime_power, random_hadamard

# the widths, heads and inner widths of both families, and the small orders
WIDTHS = [1, 2, 4, 8, 12, 20, 24, 28, 36, 40, 44, 48, 52, 56, 60, 64, 128, 192, 288, 384, 416, 512, 768, 1024, 1152]


@pytest.mark.parametrize("order", [*WIDTHS, 1280, 1536, 1664])
def test_entries_are_signs_and_rows_are_orthogonal(order):
    h = hadamard(order)
    assert h.dtype == torch.float32
    assert set(h.flatten().tolist()) <= {1.0, -1.0}
    assert torch.equal(h @ h.T, order * torch.eye(order))


@pytest.mark.parametrize("order", [3, 6, 10, 35, 92, 100 * 4 + 2])
def test_an_order_out_of_reach_is_refused_with_the_nearest(order):
    with pytest.raises(ValueError, match=rf"no Hadamard matrix of order {order} here; the nearest are \d+ and \d+"):
        hadamard(order)


@pytest.mark.parametrize("order", [12, 36, 288])
def test_a_random_one_is_orthogonal_and_spreads_a_spike_evenly(order):
    rotation = random_hadamard(order, seed=1)
    assert torch.allclose(rotation @ rotation.T, torch.eye(order), atol=1e-5)
    spike = torch.zeros(order)
    spike[order // 3] = 1
    assert torch.allclose((spike @ rotation).abs(), torch.full((order,), order**-0.5))
    assert torch.equal(rotation, random_hadamard(order, seed=1))
    assert not torch.equal(rotation, random_hadamard(order, seed=2))


@pytest.mark.parametrize(
    ("q", "found"),
    [(1, None), (2, (2, 1)), (9, (3, 2)), (12, None), (25, (5, 2)), (27, (3, 3)), (91, None), (97, (97, 1))],
)
def test_prime_powers_are_known(q, found):
    assert prime_power(q) == found


def signs(order, seed):
    return (torch.randint(0, 2, (order,), generator=torch.Generator().manual_seed(seed)) * 2 - 1).float()


@pytest.mark.parametrize("order", [2, 4, 12, 16, 36, 288, 384])
def test_a_matrix_that_keeps_ones_is_the_reflection_of_a_signed_hadamard_matrix(order):
    rows, columns = signs(order, 0), signs(order, 1)
    found = hadamard_keeping_ones(rows, columns).double()
    signed = (rows[:, None] * hadamard(order) * columns).double() / order**0.5
    u = torch.full((order,), order**-0.5, dtype=torch.float64)
    apart = signed @ u - u
    mirror = torch.eye(order, dtype=torch.float64)
    if apart.norm() > 1e-9:
        mirror -= 2 * torch.outer(apart, apart) / (apart @ apart)
    torch.testing.assert_close(found, mirror @ signed, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found @ u, u, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found @ found.T, torch.eye(order, dtype=torch.float64), atol=1e-6, rtol=1e-6)


def test_one_that_keeps_ones_already_is_not_reflected():
    assert torch.equal(hadamard_keeping_ones(torch.ones(4), torch.tensor([1.0, 1, 1, -1])).sum(1), torch.ones(4))
