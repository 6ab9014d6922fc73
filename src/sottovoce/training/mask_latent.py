"""The latent of a mask that is learned: a logit for each n:m mask of each group of weights.

Fang, Yin, Muralidharan, Heinrich, Pool, Kautz, Molchanov, Wang, "MaskLLM: Learnable Semi-Structured Sparsity for
Large Language Models", 2024, arXiv:2409.17481, sections 3.2 and 3.3.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Parameter

from sottovoce.numbers.mask_choice import (
    choice_gradient,
    choose,
    gumbel_noise,
    likeliest_mask,
    prior_logits,
    soft_mask,
)
from sottovoce.training.latent import add_gradient, stored_like
from sottovoce.weights.weight import Layer, Weight


@dataclass
class Annealing:
    """How soft the masks of a training are: kappa and tau go in a line from start to end, one draw of noise a step.

    Outside of steps, when a held-out loss is checked and at the end, masks are hard. The noise follows from the seed,
    the step and the layer, so a training that was killed draws the same again.

    regularizer  what the share of the squared weights that is kept counts in the loss; falls in a line to 0
    """

    n: int
    m: int
    kappa: tuple[float, float]
    tau: tuple[float, float]
    regularizer: float
    seed: int
    step: int | None = None
    share: float = 0.0

    def begin(self, step: int, steps: int) -> None:
        """Step `step` of `steps`, from 0."""
        self.step, self.share = step, step / steps

    def stepped(self, step: int, steps: int) -> None:
        """Nothing: masks follow their logits."""

    def end(self) -> None:
        """Masks are hard from now on."""
        self.step = None

    def now(self) -> tuple[float, float]:
        """Kappa and tau."""
        (kappa, last_kappa), (tau, last_tau) = self.kappa, self.tau
        return kappa + (last_kappa - kappa) * self.share, tau + (last_tau - tau) * self.share

    def noise(self, layer: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """What is added to the logits of a layer, by its number, in this step."""
        assert self.step is not None
        generator = torch.Generator(device).manual_seed((self.seed * 1_000_003 + self.step) * 10_007 + layer)
        return gumbel_noise(shape, generator)


class MaskLatent:
    """The logits of a layer's groups, and its weights if they learn too.

    prior    (out, in) bool: the n:m mask to begin at, as firmly as `strength` says
    number   the layer's, in the order of all that learn together
    rate     the logits are this multiple of what the optimizer moves, and so of its learning rate
    squares  the sum of squared weights of all layers that learn together
    """

    def __init__(
        self,
        layer: Layer,
        prior: Tensor,
        annealing: Annealing,
        *,
        number: int,
        strength: float,
        rate: float,
        squares: float,
        weights: bool,
    ) -> None:
        self.start, self.columns = layer.weight, layer.columns
        self.annealing, self.number, self.rate, self.squares = annealing, number, rate, squares
        logits = prior_logits(prior, annealing.n, annealing.m, strength)
        self.parameters = {"logits": Parameter(logits / rate)}
        self.base = layer.float_base()
        if weights:
            self.parameters["base"] = Parameter(self.base.clone())
            self.base = self.parameters["base"].detach()
        self.choice: Tensor | None = None

    def weight(self) -> Weight:
        """In a step the weight under its soft mask; else under the likeliest, as it is stored."""
        n, m = self.annealing.n, self.annealing.m
        logits = self.parameters["logits"].detach()
        if self.annealing.step is None:
            self.choice = None
            hard = replace(self.start, mask=likeliest_mask(logits, n, m, self.columns))
            return stored_like(hard, self.base) if "base" in self.parameters else hard
        kappa, tau = self.annealing.now()
        noise = self.annealing.noise(self.number, tuple(logits.shape), logits.device)
        self.choice = choose(logits, noise, kappa * self.rate, tau)
        return replace(self.start, base=self.base * soft_mask(self.choice, n, m, self.columns))

    def pull(self, gradient: Tensor) -> None:
        """Through the soft mask to the logits, with what the regularizer adds, and to the weights."""
        assert self.choice is not None, "a gradient is of a step's soft mask"
        n, m = self.annealing.n, self.annealing.m
        mask = soft_mask(self.choice, n, m, self.columns)
        if "base" in self.parameters:
            add_gradient(self.parameters["base"], gradient * mask)
        kept = 2 * self.annealing.regularizer * (1 - self.annealing.share) / self.squares
        of_mask = self.base * (gradient - kept * self.base * mask)
        kappa, tau = self.annealing.now()
        add_gradient(self.parameters["logits"], choice_gradient(self.choice, of_mask, n, m, kappa * self.rate, tau))
