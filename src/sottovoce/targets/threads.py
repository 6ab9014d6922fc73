"""Keeping torch's threads out of the way of a runtime that has its own.

After each operator torch's threads wait by spinning, on cores that the runtime's threads want: with two threads each, a
token took twice the time that it takes with one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sottovoce.targets.base import Engine, WholeEngine


@contextmanager
def search_threads(engine: Engine | WholeEngine) -> Iterator[None]:
    """Let torch search in one thread where the engine has threads of its own."""
    before = torch.get_num_threads()
    if engine.own_threads:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if engine.own_threads:
            torch.set_num_threads(before)
