"""A group lasso in training: heads or neurons go to exactly 0, as many as are asked for, while the model learns.

After each step of the optimizer comes the proximal step of the penalty (numbers/trimmed_lasso.py). Wherever the
held-out loss is checked, and in the end, those that are to go are out altogether, whatever is left of their norms.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Parameter

from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Inner
from sottovoce.models.widths import count_of
from sottovoce.numbers.leaving_out import best_kept
from sottovoce.numbers.trimmed_lasso import even_threshold, shortened, steps_left
from sottovoce.training.latent import Latent, PartsLatent
from sottovoce.weights.weight import Layer, Weight

Norms = Mapping[str, Tensor]  # (n,) by the name of an Inner


class ReaderLatent(PartsLatent):
    """A layer whose columns are the heads or neurons of `inner`; outside of steps without those that leave.

    kept  (n,) int64, who stays; None within steps, for all

    What nobody reads has no say, so that rows and biases can stay as the training has them.
    """

    def __init__(self, layer: Layer, inner: Inner) -> None:
        super().__init__(layer)
        self.inner = inner
        self.kept: Tensor | None = None

    def weight(self) -> Weight:
        """The base, as it is stored."""
        weight = super().weight()
        if self.kept is None:
            return weight
        assert isinstance(weight.base, Tensor)
        gone = torch.ones(weight.base.shape[1], dtype=torch.bool, device=weight.base.device)
        gone = gone.index_fill(0, self.inner.columns(self.kept), False)
        return replace(weight, base=weight.base.masked_fill(gone, 0.0))


class Groups:
    """The heads or neurons of one Inner as groups of parameters: writers' rows with biases, the reader's columns.

    importance  (n,) what their norms count as in the beginning; None for themselves, as shares of their sum
    """

    def __init__(
        self, model: SpeechModel, inner: Inner, latents: Mapping[str, Latent], importance: Tensor | None = None
    ) -> None:
        self.inner, self.count = inner, count_of(model, inner)
        self.rows = [latents[name].parameters["base"] for name in inner.writers]
        biases = [getattr(model.find(name), "bias", None) for name in inner.writers]
        self.rows += [bias for bias in biases if isinstance(bias, Parameter)]
        reader = latents[inner.reader]
        assert isinstance(reader, ReaderLatent)
        self.reader, self.columns = reader, reader.parameters["base"]
        start = self.norms()
        counted = start / start.sum().clamp(min=1e-30) if importance is None else importance.to(start)
        self.scale = torch.where(start > 0, counted / start.clamp(min=1e-30), 0.0)

    @torch.no_grad()
    def norms(self) -> Tensor:
        """(n,) float32: the Euclidean norm of each group."""
        squares = self.columns.square().sum(0).reshape(self.count, -1).sum(1)
        for rows in self.rows:
            squares = squares + rows.square().reshape(self.inner.runs, self.count, -1).sum((0, 2))
        return squares.sqrt()

    def weighed(self) -> Tensor:
        """(n,) float32: the norms, each by the weight that its group has in the penalty."""
        return self.norms() * self.scale

    @torch.no_grad()
    def multiply(self, factors: Tensor) -> None:
        """Multiply each group by its factor (n,)."""
        of_channel = factors.repeat_interleave(self.inner.channels)
        self.columns.mul_(of_channel)
        of_row = of_channel.repeat(self.inner.runs)
        for rows in self.rows:
            rows.mul_(of_row if rows.ndim == 1 else of_row[:, None])


@dataclass
class GroupLasso:
    """The penalty's course: all that leave are 0 behind the first `zero_by` of the steps, and stay there.

    stay  how many stay of each Inner, by weighed norms
    """

    groups: Sequence[Groups]
    stay: Callable[[Norms], Mapping[str, int]]
    zero_by: float

    def begin(self, step: int, steps: int) -> None:
        """All are there to learn."""
        for group in self.groups:
            group.reader.kept = None

    def stepped(self, step: int, steps: int) -> None:
        """The proximal step, with a threshold for each Inner that just suffices."""
        left = steps_left(step, steps, self.zero_by)
        for group, norms, stay in self._now():
            if stay < len(norms):
                group.multiply(shortened(norms, stay, even_threshold(norms, stay, left)))

    def end(self) -> None:
        """Those that leave are out from now on."""
        for group, norms, stay in self._now():
            group.reader.kept = best_kept(norms, stay)

    def _now(self) -> Iterator[tuple[Groups, Tensor, int]]:
        norms = {group.inner.name: group.weighed() for group in self.groups}
        stay = self.stay(norms)
        yield from ((group, norms[group.inner.name], stay[group.inner.name]) for group in self.groups)
