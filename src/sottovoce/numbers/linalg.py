"""Two pieces of linear algebra that several methods share, in float64 where it costs little."""

import torch
from torch import Tensor


def damped(gram: Tensor, damp: float) -> Tensor:
    """`gram` (n, n) with `damp` times its mean diagonal added; a dead input (zero diagonal) counts one."""
    diagonal = gram.diagonal()
    dead = (diagonal == 0).to(diagonal.dtype)
    mean = 1.0 if dead.all() else diagonal.mean()
    return gram + torch.diag(dead + damp * mean)


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
    if gram is None or not gram.any():  # nothing was seen: all inputs count alike
        u, s, vt = torch.linalg.svd(error, full_matrices=False)
    elif gram.dim() == 1:
        root = _root(gram.double())
        u, s, vt = torch.linalg.svd(error * root, full_matrices=False)
        vt = vt / root
    else:
        c = _square_root(gram)
        u, s, vt = torch.linalg.svd(error @ c, full_matrices=False)
        vt = torch.linalg.solve_triangular(c, vt, upper=False, left=False)
    root_s = s[:rank].sqrt()
    return (u[:, :rank] * root_s).float(), (root_s[:, None] * vt[:rank]).float()


def _root(square: Tensor) -> Tensor:
    """The root of each input's energy; a dead input counts next to nothing."""
    return (square + 1e-12 * square.mean()).sqrt()


def _square_root(gram: Tensor) -> Tensor:
    """A lower triangular C with gram = C C^T, up to what float32 sums can tell from a singular matrix.

    The correlations are damped, not the energies: an outlier channel does not drown the others.
    """
    root = _root(gram.diagonal().double())
    correlation = gram.double() / root[:, None] / root
    correlation.diagonal().fill_(1 + len(gram) * torch.finfo(torch.float32).eps)
    return root[:, None] * torch.linalg.cholesky(correlation)
