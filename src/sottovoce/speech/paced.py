"""A recording as if it came from a microphone: each block when its time has come."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
BLOCK_SECONDS = 0.032  # as the voice activity detection hears it


def paced(
    blocks: Iterable[Samples],
    rate: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Samples]:
    """The same samples in the pace in which they were recorded.

    A block is 32 ms, or all that has come while whoever takes them was at work.
    """
    pieces, begun, given = short(blocks, rate), clock(), 0
    for piece in pieces:
        due = [piece]
        given += len(piece)
        if (early := begun + given / rate - clock()) > 0:
            sleep(early)
        while begun + (given + BLOCK_SECONDS * rate) / rate <= clock() and (more := next(pieces, None)) is not None:
            due.append(more)
            given += len(more)
        yield np.concatenate(due)


def short(blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """The same samples in blocks of at most 32 ms."""
    length = round(BLOCK_SECONDS * rate)
    for block in blocks:
        for at in range(0, len(block), length):
            yield block[at : at + length]
