"""Input columns left out of a product: what each is worth to the output, and what the others can take over.

Columns stand in groups of neighbours (a head's channels; a neuron is a group of one). The second moment of the inputs
is about their mean where the layer has a bias, which takes over the mean of what goes; about zero where it has none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Moments:
    """Inputs x (in,) of a layer: second (in, in) float64 = the mean of (x - mean)(x - mean)^T; energy (in,) of x^2."""

    second: Tensor
    mean: Tensor
    energy: Tensor

    @staticmethod
    def of(gram: Tensor, total: Tensor, count: int, *, about_mean: bool) -> "Moments":
        """From sums of x x^T and of x over `count` vectors.

        Where inputs are constant, what is left about the mean is the rounding of sums in float32: so much, and no
        more, is added to the diagonal.
        """
        second = gram.double() / count
        energy = second.diagonal().clone()
        mean = torch.zeros_like(energy)
        if about_mean:
            mean = total.double() / count
            second = second - torch.outer(mean, mean)
            second.diagonal().add_(len(second) * _EPS * energy.mean())
        return Moments(second, mean, energy)

    def damped(self, damp: float) -> Tensor:
        """`second` with `damp` times its mean diagonal added; inputs that never fire count 1."""
        diagonal = self.second.diagonal()
        dead = (self.energy == 0).to(diagonal.dtype)
        mean = diagonal.mean() if bool(self.energy.any()) else 1.0
        return self.second + torch.diag(dead + damp * mean)


def written_energy(w: Tensor, moments: Moments, size: int) -> Tensor:
    """(groups,) float64: the mean square of what each group of `size` columns of `w` (out, in) adds to the output."""
    about_zero = moments.second + torch.outer(moments.mean, moments.mean)
    products = (w.double().T @ w.double()) * about_zero
    groups = len(products) // size
    return products.reshape(groups, size, groups, size).diagonal(dim1=0, dim2=2).sum((0, 1))


def removal_errors(w: Tensor, moments: Moments, size: int, most: int, damp: float) -> Tensor:
    """(groups,) float64: the squared error of the output at which each of `most` groups goes, infinite for the rest.

    One after the other the group goes whose loss costs least once all other columns have taken over what they can;
    Kurtic, Frantar, Alistarh, "ZipLM: Inference-Aware Structured Pruning of Language Models", 2023,
    arXiv:2302.04089, equations 3 and 4. Errors never fall, so that they order the groups.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments.damped(damp)))
    w = w.double().masked_fill(moments.energy == 0, 0.0)
    groups = len(inverse) // size
    errors = torch.full((groups,), torch.inf, dtype=torch.float64, device=w.device)
    gone = torch.zeros(groups, dtype=torch.bool, device=w.device)
    so_far = torch.zeros((), dtype=torch.float64, device=w.device)
    for _ in range(most):
        i = int(_cost(w, inverse, size).masked_fill(gone, torch.inf).argmin())
        here = slice(i * size, (i + 1) * size)
        within = inverse[here, here].clone()
        so_far = torch.maximum(so_far, ((w[:, here] @ torch.linalg.inv(within)) * w[:, here]).sum())
        errors[i], gone[i] = so_far, True
        taken = torch.linalg.solve(within, inverse[here])  # (size, in)
        w = w - w[:, here] @ taken
        inverse = inverse.addmm(inverse[:, here].clone(), taken, alpha=-1)
        w[:, here], inverse[here], inverse[:, here] = 0.0, 0.0, 0.0
        inverse[here, here] = torch.eye(size, dtype=torch.float64, device=w.device)
    return errors


def _cost(w: Tensor, inverse: Tensor, size: int) -> Tensor:
    """(groups,): tr(W_g ((inverse)_gg)^-1 W_g^T) of each group."""
    if size == 1:
        return w.square().sum(0) / inverse.diagonal()
    groups = len(inverse) // size
    within = inverse.reshape(groups, size, groups, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    columns = w.T.reshape(groups, size, -1)
    return (torch.linalg.solve(within, columns) * columns).sum((1, 2))


def taken_over(w: Tensor, moments: Moments, kept: Tensor, damp: float) -> Tensor:
    """(out, kept) float32: the columns `kept` (n,) int64 of `w` (out, in), with what they can tell of the others.

    The least squared error of the output: W_k + W_g S_gk S_kk^-1 with S the second moment, k kept and g gone. Frantar
    and Alistarh, "Optimal Brain Compression", 2022, arXiv:2208.11580, section 4, for all columns at once.
    """
    w = w.double()
    gone = torch.ones(w.shape[1], dtype=torch.bool, device=w.device).index_fill(0, kept, False)
    lower = torch.linalg.cholesky(moments.damped(damp)[kept][:, kept])
    told = torch.cholesky_solve(moments.second[kept][:, gone], lower)  # (kept, gone)
    return (w[:, kept] + w[:, gone] @ told.T).float()


def constant_left(w: Tensor, made: Tensor, moments: Moments, kept: Tensor) -> Tensor:
    """(out,) float32: the mean that `w` (out, in) puts out and `made` (out, kept) does not: for the bias."""
    return (w.double() @ moments.mean - made.double() @ moments.mean[kept]).float()


def best_kept(scores: Tensor, count: int) -> Tensor:
    """(count,) int64, rising: the places of the largest scores (n,); of equal ones the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def shared_budget(scores: list[Tensor], dropped: int, multiple: int) -> list[int]:
    """How many stay of each list of scores when `dropped` of all go, the least first, in whole multiples.

    What stays of a list that loses some is a multiple of `multiple`, and no list loses its best `multiple`. Those that
    go together count by their mean.
    """
    steps = []  # (mean score of those that would go, list, how many stay, how many go), from the worst of each on
    for number, found in enumerate(scores):
        ranked = found.double().sort(descending=True).values
        for stay in range(multiple, len(ranked), multiple):
            upto = min(stay + multiple, len(ranked))
            steps.append((float(ranked[stay:upto].mean()), number, stay, upto - stay))
    stays, left = [len(found) for found in scores], dropped
    for _, number, stay, goes in sorted(steps, key=lambda step: (step[0], -step[2])):
        if goes <= left and stays[number] == stay + goes:
            stays[number], left = stay, left - goes
    return stays
