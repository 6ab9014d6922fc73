"""What a model learns from at once, and where such batches come from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Utterances side by side.

    ids       of the utterances, for messages
    features  one (1, ...) float32 each: clips are encoded at their own length
    inputs    (n, length) int64: what the decoder reads, prompt first
    labels    (n, length) int64: what it should say next; IGNORED on the prompt and the padding
    whole     the features of the uncompressed model, of which `features` are the first; None where they are the same
    numbers   (tokens,) int64, the uncompressed model's number of each token; None where they are the same
    """

    ids: tuple[str, ...]
    features: tuple[Tensor, ...]
    inputs: Tensor
    labels: Tensor
    whole: tuple[Tensor, ...] | None = field(default=None, kw_only=True)
    numbers: Tensor | None = field(default=None, kw_only=True)

    @property
    def of_teacher(self) -> "Batch":
        """The batch as the uncompressed model is given it."""
        given = self if self.whole is None else replace(self, features=self.whole, whole=None)
        if self.numbers is None:
            return given
        labels = self.labels.where(self.labels == IGNORED, self.numbers[self.labels.clamp(min=0)])
        return replace(given, inputs=self.numbers[self.inputs], labels=labels, numbers=None)

    def __len__(self) -> int:
        return len(self.ids)


class Batches(Protocol):
    """Batches by number: the same number is the same batch, so a training resumes where it stopped."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass."""

    def at(self, number: int) -> Batch:
        """The batch of that number, from 0, epoch after epoch."""

    def held_out(self) -> Iterator[Batch]:
        """The batches that are never trained on."""


def teacher_forced(
    prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], padding: int
) -> tuple[Tensor, Tensor]:
    """Inputs and labels (n, length) of utterances: a prompt, then a text with its end; padding is not learned."""
    rows = [[*prompt, *text] for prompt, text in zip(prompts, texts, strict=True)]
    length = max(map(len, rows)) - 1
    inputs = torch.full((len(rows), length), padding)
    labels = torch.full((len(rows), length), IGNORED)
    for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        inputs[i, : len(row) - 1] = torch.tensor(row[:-1])
        labels[i, len(prompt) - 1 : len(row) - 1] = torch.tensor(row[len(prompt) :])
    return inputs, labels
