"""One input column after the other: what a column loses when it settles, the columns ahead make up for.

The core that GPTQ (Frantar et al., 2022, arXiv:2210.17323, algorithm 1) and its relatives share; they differ in
what a column becomes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Settle = Callable[[int, Tensor], Tensor]
Reach = Callable[[int, Tensor], None]


def settle_columns(
    inputs: Tensor,
    factor: Tensor,
    settle: Settle,
    *,
    block_size: int = 128,
    reaches: Sequence[tuple[int, Reach]] = (),
) -> None:
    """Settle the rows of `inputs` (in, out) in turn, which is changed in place.

    factor      (in, in) upper inverse factor of the Gram matrix, in the order of `inputs`
    settle      (i, input (out,)) -> what it becomes (out,); the difference is the error that is spread
    reaches     (size, function): called with (i, inputs (size, out) as updated by then) before the first of each
                `size` inputs, in this order
    block_size  inputs between two updates of all the rest
    """
    columns = len(inputs)
    for start in range(0, columns, block_size):
        stop = min(start + block_size, columns)
        errors = torch.zeros_like(inputs[start:stop])
        for i in range(start, stop):
            for size, reach in reaches:
                if i % size == 0:
                    ahead = inputs[i : i + size].clone()
                    if i + size > stop:  # inputs beyond the block still lack the errors of this one
                        ahead[stop - i :] -= factor[start:i, stop : i + size].T @ errors[: i - start]
                    reach(i, ahead)
            errors[i - start] = (inputs[i] - settle(i, inputs[i])) / factor[i, i]
            inputs[i + 1 : stop].addr_(factor[i, i + 1 : stop], errors[i - start], alpha=-1)
        inputs[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
