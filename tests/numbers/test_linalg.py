import pytest
import torch

from sottovoce.numbers.linalg import damped, inverse_factor, truncated_svd


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_gram(columns, vectors, seed=0):
    """(columns, columns) mean of x x^T over correlated vectors of unequal channels; singular if they are few."""
    x = noise(vectors, columns, seed=seed) @ (noise(columns, columns, seed=seed + 1) / columns**0.5)
    x = x * torch.logspace(-1, 1, columns)
    return x.T @ x / vectors


def output_error(error, gram):
    """The mean squared output ||error x||^2 over the vectors that `gram` sums up."""
    return torch.trace(error.double() @ gram.double() @ error.double().T).item()


@pytest.mark.parametrize("damp", [0.001, 0.01, 1.0])
def test_the_inverse_factor_is_upper_and_its_square_inverts_the_damped_gram(damp):
    gram = some_gram(24, 100)
    factor = inverse_factor(gram, damp)
    assert torch.equal(factor, factor.triu())
    assert (factor.diagonal() > 0).all()
    slow = gram.double() + damp * gram.double().diagonal().mean() * torch.eye(24)
    product = factor.double().T @ factor.double() @ slow
    torch.testing.assert_close(product, torch.eye(24, dtype=torch.float64), atol=1e-3, rtol=0)


def test_row_i_of_the_factor_is_the_first_row_of_the_inverse_of_what_remains():
    gram = some_gram(12, 50)
    factor = inverse_factor(gram, 0.01).double()
    full = damped(gram.double(), 0.01)
    for i in range(12):
        first_row = torch.linalg.inv(full[i:, i:])[0]
        torch.testing.assert_close(factor[i, i:] * factor[i, i], first_row, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("damp", [0.01, 0.1])
def test_damping_adds_its_share_of_the_mean_and_lets_a_dead_input_count_one(damp):
    gram = torch.diag(torch.tensor([2.0, 0.0, 4.0]))
    assert damped(gram, damp).diagonal().tolist() == pytest.approx([2 + 2 * damp, 1 + 2 * damp, 4 + 2 * damp])


@pytest.mark.parametrize(
    "gram",
    [
        torch.zeros(8, 8),
        torch.diag(torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0, 3.0, 0.0, 1.0])),
        torch.ones(8, 8) * 5,
        some_gram(8, 3),
        torch.eye(8) * 1e-20,
        torch.eye(8) * 1e20,
    ],
    ids=["zero", "dead", "constant", "singular", "tiny", "huge"],
)
def test_degenerate_gram_matrices_give_finite_results(gram):
    error = noise(6, 8)
    assert torch.isfinite(inverse_factor(gram, 0.01)).all()
    for metric in (gram, gram.diagonal()):
        left, right = truncated_svd(error, 3, metric)
        assert torch.isfinite(left).all()
        assert torch.isfinite(right).all()
        assert (left @ right - error).norm() < 4 * error.norm()


def test_the_factors_are_the_best_of_their_rank_in_the_grams_metric():
    error, gram = noise(10, 16), some_gram(16, 200)
    left, right = truncated_svd(error, 4, gram)
    assert left.shape == (10, 4)
    assert right.shape == (4, 16)
    found = output_error(error - left @ right, gram)

    plain_left, plain_right = truncated_svd(error, 4)
    assert found < output_error(error - plain_left @ plain_right, gram)
    for seed in range(50):
        step = 10 ** -(1 + seed % 3)
        moved_left = left + step * noise(10, 4, seed=seed)
        moved_right = right + step * noise(4, 16, seed=seed + 100)
        assert found < output_error(error - moved_left @ moved_right, gram)

    # Eckart-Young in the eigenbasis of the Gram matrix: what is left is the tail of the spectrum
    values, vectors = torch.linalg.eigh(gram.double())
    spectrum = torch.linalg.svdvals(error.double() @ vectors * values.sqrt())
    assert found == pytest.approx(spectrum[4:].square().sum().item(), rel=1e-3)


def test_without_a_gram_the_factors_are_the_truncated_svd():
    error = noise(9, 14)
    u, s, vt = torch.linalg.svd(error.double(), full_matrices=False)
    left, right = truncated_svd(error, 5)
    torch.testing.assert_close((left @ right).double(), u[:, :5] * s[:5] @ vt[:5], atol=1e-5, rtol=0)
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))


@pytest.mark.parametrize("shape", [(10, 16), (16, 10)])
def test_at_full_rank_nothing_is_left(shape):
    error, gram = noise(*shape), some_gram(shape[1], 100)
    for metric in (None, gram, gram.diagonal()):
        left, right = truncated_svd(error, 10, metric)
        torch.testing.assert_close(left @ right, error, atol=1e-4, rtol=0)


@pytest.mark.parametrize("unit", [1.0, 1e-4])
@pytest.mark.parametrize("dead", [0, 3])
def test_a_diagonal_metric_is_a_gram_matrix_without_correlations(dead, unit):
    error, diagonal = noise(10, 16), torch.logspace(-1, 1, 16) * unit
    diagonal[:dead] = 0
    products = [left @ right for left, right in (truncated_svd(error, 4, m) for m in (diagonal, diagonal.diag()))]
    torch.testing.assert_close(*(product[:, dead:] for product in products), atol=1e-3, rtol=0)


@pytest.mark.parametrize("metric", ["gram", "diagonal"])
def test_a_dead_input_takes_no_rank_from_the_live_ones(metric):
    # activations of 1e-2 beside an input that never fires and whose weights are large
    gram = some_gram(8, 100) * 1e-4
    gram[0, :] = gram[:, 0] = 0
    error = noise(6, 8)
    error[:, 0] *= 10
    left, right = truncated_svd(error, 3, gram if metric == "gram" else gram.diagonal())
    live = gram[1:, 1:]
    weighing = live if metric == "gram" else live.diagonal().diag()
    live_left, live_right = truncated_svd(error[:, 1:], 3, weighing)
    alone = output_error(error[:, 1:] - live_left @ live_right, weighing)
    assert output_error((error - left @ right)[:, 1:], weighing) == pytest.approx(alone, rel=0.01)


@pytest.mark.parametrize("columns", [128, 384])
def test_a_gram_matrix_that_float32_sums_left_indefinite_can_be_factored(columns):
    # a large mean over few directions: the sums' rounding exceeds the smallest eigenvalues
    few = noise(1500, 20) @ noise(20, columns, seed=1)
    x = torch.cat([few + 10 * noise(columns, seed=2), few + 10 * noise(columns, seed=3)])
    gram = x.T @ x / len(x)
    assert torch.linalg.eigvalsh(gram.double())[0] < 0
    error = noise(8, columns, seed=4)
    left, right = truncated_svd(error, 4, gram)
    assert output_error(error - left @ right, gram) < output_error(error - error.mean(), gram)
