"""MaskLLM: learn which n of m neighbouring weights to keep, by what the whole model then does.

Fang, Yin, Muralidharan, Heinrich, Pool, Kautz, Molchanov, Wang, "MaskLLM: Learnable Semi-Structured Sparsity for
Large Language Models", 2024, arXiv:2409.17481; github.com/NVlabs/MaskLLM. Each group of m weights has a logit for each
of its masks; a step draws Gumbel noise and multiplies the weights by the mean of the masks under softmax((kappa *
logits + noise) / tau). Masks begin at those of a one-shot method and are hard wherever the held-out loss is checked;
the best are kept, those of the beginning included. Weights stay as they are, unless train_weights has those that are
kept, norms and biases learn too. The losses are those of distill; with labels: 1, encoder: 0, logits: 0 and tokens:
transcript masks learn from transcripts.

What differs from the official code. Logits begin without its random ones, which take 6 % of the groups off their
prior. The regularizer is the share of the squared weights that is kept, not their sum, and so means the same for models
of any size; it falls to 0 as there. The schedule is for minutes of one core instead of two billion tokens: fewer and
larger steps, softmaxes that begin nearer to one mask.

A mask gives way once its logits have moved by about half of the prior's distance, and noise alone moves them by the
learning rate times the root of the steps: about 0.002 / sqrt(steps) suits both (3e-4 for 50 steps; the official 5e-5
for 2,000). moonshine-tiny, 8 clips of 6 s a step, takes 2.4 s a step of one core of an AMD EPYC (Zen 4), of which the
10 million logits are 0.3 s, and 20 bytes a logit while it learns; the first masks move after some 10 steps, and the
held-out loss of Wanda's 2:4 is halved in 30.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from sottovoce.calibration.sequential import in_sequence
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find, method
from sottovoce.methods.distill import DecoderTokens, needs_of, refuse_no_loss
from sottovoce.methods.options import NofM
from sottovoce.methods.sparsity import n_and_m, refuse_n_of_m
from sottovoce.methods.words import dropped, learned
from sottovoce.models.base import SpeechModel
from sottovoce.numbers.mask_choice import count_masks
from sottovoce.training.augment import Augmentation
from sottovoce.training.data import Material
from sottovoce.training.losses import Losses
from sottovoce.training.mask_latent import Annealing, MaskLatent
from sottovoce.training.recover import recover
from sottovoce.training.refuse import refuse_training
from sottovoce.training.settings import Training
from sottovoce.weights.weight import Layer, LayerShape

MOST_MASKS = 100  # a logit each: 4:8 has 70 for 8 weights


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    """What it trains on, and calibration audio where the prior looks at activations."""
    prior = find(options["prior"])
    statistics = prior.needs(prior.options.fill(prior.name, {}))
    return needs_of(options) | (frozenset({"data"}) if statistics else frozenset())


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if not shape.multiplies:
        return (
            f"maskllm learns by what a layer puts out, and {shape.name} is an embedding that is only looked up; "
            "exclude it with where"
        )
    masks = count_masks(*n_and_m(options["sparsity"]))
    if masks > MOST_MASKS:
        return (
            f"sparsity {options['sparsity']} has {masks:,} masks for a group, a logit each; {MOST_MASKS} at most, as "
            "2:4 (6) or 4:8 (70), would work"
        )
    return refuse_n_of_m(shape, options) or refuse_no_loss(shape, options)


def _refuse_model(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if options["learning_rate"] == "auto":
        return (
            "maskllm: learning_rate: auto tries rates on a tenth of the steps, and the rate that suits masks falls "
            "with the root of the steps, so it would find one about 3 times too high; 0.002 / sqrt(steps), as 0.0003 "
            "for 50, would work"
        )
    return refuse_training(model, names, options)


@method(
    scope="model",
    owns="mask",
    needs=_needs,
    refuse=_refuse,
    refuse_model=_refuse_model,
    where=("blocks",),
    words=lambda name, options: {**dropped(name, options), **learned(name, options)},
    imitates=("encoder", "hidden"),
)
def maskllm(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    sparsity: NofM = "2:4",
    prior: Annotated[
        Literal["magnitude", "ria", "sparsegpt", "wanda"],
        Field(description="the pruner whose masks it begins at"),
    ] = "wanda",
    prior_strength: Annotated[
        float, Field(gt=0, description="how firm the prior is: logits differ by 0.01 of it a weight")
    ] = 3.0,
    kappa_start: Annotated[float, Field(gt=0, description="kappa at the start: logits against noise")] = 100.0,
    kappa_end: Annotated[float, Field(gt=0, description="kappa at the end")] = 500.0,
    tau_start: Annotated[float, Field(gt=0, description="tau at the start: the temperature of the softmax")] = 1.0,
    tau_end: Annotated[float, Field(gt=0, description="tau at the end")] = 0.05,
    regularizer: Annotated[
        float, Field(ge=0, description="weight of the share of squared weights that is kept; falls to 0")
    ] = 0.0,
    mask_rate: Annotated[
        float, Field(gt=0, description="learning rate of the logits, as a multiple of learning_rate")
    ] = 10.0,
    train_weights: Annotated[bool, Field(description="train kept weights, norms and biases too")] = False,
    tokens: DecoderTokens = "own",
    losses: Annotated[Losses, Losses(encoder=1.0, logits=1.0)],
    augmentation: Augmentation,
    training: Annotated[Training, Training(learning_rate=3e-4)],
) -> None:
    """Learn the masks of all layers together."""
    priors = prior_masks(model, layers, material, prior, sparsity)
    kappa, tau = (kappa_start, kappa_end), (tau_start, tau_end)
    annealing = Annealing(*n_and_m(sparsity), kappa, tau, regularizer, training.seed)
    squares = sum(float(layer.float_base().square().sum()) for layer in layers.values())
    latents = {
        name: MaskLatent(
            layer,
            priors[name],
            annealing,
            number=number,
            strength=prior_strength,
            rate=mask_rate,
            squares=max(squares, 1e-30),
            weights=train_weights,
        )
        for number, (name, layer) in enumerate(layers.items())
    }
    recover(
        model,
        layers,
        material.lessons,
        latents,
        losses,
        training,
        tokens=tokens,
        augmentation=augmentation,
        rest=train_weights,
        schedule=annealing,
    )


def prior_masks(
    model: SpeechModel, layers: Mapping[str, Layer], material: Material, prior: str, sparsity: str
) -> dict[str, Tensor]:
    """(out, in) bool for each layer: the masks of a layer method as a step of a recipe; the model is as before."""
    one_shot = find(prior)
    options = one_shot.options.fill(prior, {"sparsity": sparsity})
    arguments = one_shot.options.arguments(options)
    found: dict[str, Tensor] = {}

    def mask(name: str, stats: InputStats) -> None:
        weight = one_shot.function(layers[name], stats, **arguments)
        assert weight.mask is not None
        found[name] = weight.mask
        model.assign(replace(layers[name], weight=weight))

    def see(stats: Mapping[str, InputStats]) -> None:
        for name, of_layer in stats.items():
            mask(name, of_layer)

    needs = one_shot.needs(options)
    if needs:
        in_sequence(model, material.clips, layers, needs, see)
    else:
        see(dict.fromkeys(layers, InputStats()))
    for layer in layers.values():
        model.assign(layer)
    return found
