"""Two pieces of linear algebra that several methods share, in float64 where it costs little."""

import torch
from torch import Tensor


def damped(gram: Tensor, damp: float) -> Tensor:
    """`gram` (n, n) with `damp` times its mean diagonal added; a dead input (zero diagonal) counts one."""
    diagonal = gram.diagonal()
    dead = diagonal == 0
    live_mean = diagonal.mean() if not dead.all() else diagonal.new_ones(())
    return gram + torch.diag(
        torch.where(dead, torch.ones_like(diagonal), torch.zeros_like(diagonal)) + damp * live_mean
    )


def inverse_factor(gram: Tensor, damp: float) -> Tensor:
    """The upper Cholesky factor U of the inverse of the damped Gram matrix: inverse = U^T U.

    Row i of U holds what GPTQ and SparseGPT need of column i once the columns before it are settled
    (Frantar et al. 2022, arXiv:2210.17323, section 3.3). (n, n) float64 inside, float32 out.
    """
    lower = torch.linalg.cholesky(damped(gram.double(), damp))
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True).float()


def truncated_svd(error: Tensor, rank: int, gram: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The best rank-`rank` product for `error` (out, in), its inputs weighed by `gram`.

    Minimises ||(error - left @ right) C||_F with gram = C C^T, that is the output error over the
    vectors that `gram` sums up; without a Gram matrix, the plain Frobenius error (Eckart-Young).
    gram is (in, in), or (in,) for a diagonal one. Returns left (out, rank) and right (rank, in),
    each with the square root of the singular values.
    """
    error = error.double()
    if gram is None:
        u, s, vt = torch.linalg.svd(error, full_matrices=False)
    elif gram.dim() == 1:
        root = (gram.double() + 1e-12 * gram.double().mean()).clamp(min=1e-300).sqrt()
        u, s, vt = torch.linalg.svd(error * root, full_matrices=False)
        vt = vt / root
    else:
        c = torch.linalg.cholesky(damped(gram.double(), 1e-6))
        u, s, vt = torch.linalg.svd(error @ c, full_matrices=False)
        vt = torch.linalg.solve_triangular(c, vt, upper=False, left=False)
    root_s = s[:rank].sqrt()
    return (u[:, :rank] * root_s).float(), (root_s[:, None] * vt[:rank]).float()
