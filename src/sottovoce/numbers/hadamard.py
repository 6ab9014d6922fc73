"""Hadamard matrices of the widths that models have: entries of +1 and -1, orthogonal rows.

Sylvester, 1867, doubles any of them; Paley, "On Orthogonal Matrices", 1933, gives one of order q + 1 where q is a
prime power of the form 4k + 3, and one of order 2 (q + 1) where it is of the form 4k + 1. Moonshine's widths are
36 * 8 and 52 * 8, Whisper's 12 * 2^k, 20 * 2^k and 2^k.
"""

from functools import cache
from itertools import product

import torch
from torch import Tensor


@cache
def hadamard(order: int) -> Tensor:
    """(order, order) float32 of +1 and -1 with H @ H.T = order * I; not symmetric in general.

    Raises ValueError for an order that these constructions do not reach.
    """
    if order in (1, 2):
        return torch.tensor([[1.0, 1.0], [1.0, -1.0]])[:order, :order]
    if order >= 4 and order % 4 == 0:
        if has_hadamard(order // 2):
            return torch.kron(hadamard(2), hadamard(order // 2))
        if prime_power(order - 1):
            return _paley_one(order - 1)
        if _paley_two_reaches(order):
            return _paley_two(order // 2 - 1)
    near = [n for n in range(max(1, order - 32), order + 33) if has_hadamard(n)]
    below, above = max((n for n in near if n < order), default=1), min(n for n in near if n > order)
    raise ValueError(f"there is no Hadamard matrix of order {order} here; the nearest are {below} and {above}")


def random_hadamard(order: int, seed: int) -> Tensor:
    """(order, order) float32, orthogonal: a Hadamard matrix with columns of random sign, over sqrt(order)."""
    signs = torch.randint(0, 2, (order,), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1
    return hadamard(order) * signs / order**0.5


def hadamard_keeping_ones(rows: Tensor, columns: Tensor) -> Tensor:
    """(order, order) float32, orthogonal, that maps the vector of ones to itself: a signed Hadamard matrix, reflected.

    rows, columns  (order,) of +1 and -1, by which those of the matrix are multiplied

    Householder's reflection brings the image of ones back onto ones and moves an entry by about 1/order. Sums of
    signs are whole numbers and the rest goes entry by entry, so the bits are the same on every machine.
    """
    order = len(rows)
    signed = rows[:, None].double() * hadamard(order).to(rows.device).double() * columns.double()
    root = float(order) ** 0.5
    apart, back = signed.sum(1) - root, signed.sum(0) - root
    left = order * order - root * float(signed.sum())  # 0 if ones are mapped to themselves already
    kept = signed / root if left < 0.5 else signed / root + apart[:, None] * back / left
    return kept.float()


def prime_power(q: int) -> tuple[int, int] | None:
    """(p, k) with q = p^k, p prime; None if there is none."""
    p = next((p for p in range(2, int(q**0.5) + 1) if q % p == 0), q)
    k = 0
    rest = q
    while rest > 1 and rest % p == 0:
        rest, k = rest // p, k + 1
    return (p, k) if q > 1 and rest == 1 else None


def has_hadamard(order: int) -> bool:
    """Whether `hadamard` makes a matrix of this order."""
    if order in (1, 2):
        return True
    if order < 4 or order % 4:
        return False
    return has_hadamard(order // 2) or bool(prime_power(order - 1)) or _paley_two_reaches(order)


def _paley_two_reaches(order: int) -> bool:
    q = order // 2 - 1
    return q % 4 == 1 and bool(prime_power(q))


def _paley_one(q: int) -> Tensor:
    skew = torch.zeros(q + 1, q + 1)
    skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1.0, -1.0, _jacobsthal(q)
    return torch.eye(q + 1) + skew


def _paley_two(q: int) -> Tensor:
    symmetric = torch.zeros(q + 1, q + 1)
    symmetric[0, 1:], symmetric[1:, 0], symmetric[1:, 1:] = 1.0, 1.0, _jacobsthal(q)
    off, on = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([[1.0, -1.0], [-1.0, -1.0]])
    return torch.kron(symmetric, off) + torch.kron(torch.eye(q + 1), on)


def _jacobsthal(q: int) -> Tensor:
    """(q, q): 1 where the difference of two elements of the field of order q is a square, -1 where not, 0 if none."""
    found = prime_power(q)
    assert found is not None
    p, k = found
    elements = list(product(range(p), repeat=k))
    modulus = _irreducible(p, k)
    zero = (0,) * k
    squares = {_times(a, a, modulus, p) for a in elements} - {zero}
    sign = {a: 0.0 if a == zero else 1.0 if a in squares else -1.0 for a in elements}
    return torch.tensor(
        [[sign[tuple((x - y) % p for x, y in zip(a, b, strict=True))] for b in elements] for a in elements]
    )


def _irreducible(p: int, k: int) -> tuple[int, ...]:
    """The lower coefficients c of a polynomial x^k + c over the integers mod p that is no product of smaller ones.

    An irreducible one is one whose multiplication has no divisors of zero.
    """
    elements = [a for a in product(range(p), repeat=k) if any(a)]
    for lower in product(range(p), repeat=k):
        if all(any(_times(a, b, lower, p)) for a in elements for b in elements):
            return lower
    raise AssertionError("a finite field of every prime power exists")


def _times(a: tuple[int, ...], b: tuple[int, ...], lower: tuple[int, ...], p: int) -> tuple[int, ...]:
    """The product of two polynomials, lowest coefficient first, mod x^k + lower and p."""
    k = len(a)
    full = [0] * (2 * k - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            full[i + j] += x * y
    for place in range(2 * k - 2, k - 1, -1):
        for j in range(k):
            full[place - k + j] -= full[place] * lower[j]
    return tuple(value % p for value in full[:k])
