"""Group lasso: heads and neurons are trained to zero and left out, while the model learns from the uncompressed one.

What Mudi, Sachan, Devapriya, Kalyani, "Structured Sparsity and Weight-adaptive Pruning for Memory and Compute Efficient
Whisper Models" (TSPAR), 2025, arXiv:2510.12666, do with a sparse group lasso on the columns of single matrices and
thresholds by their statistics is done here with what can really go: a head is its rows of queries, keys and values,
their biases and its columns of the output; a neuron its row of the first layer (of both halves, where there is a gate),
its bias and its column of the second. After each step of the optimizer a proximal step shortens the norms of those that
leave, and of no others, to exactly zero (Yuan and Lin, 2006; trimmed: numbers/trimmed_lasso.py). Its threshold follows
from what is left to do: as many as were asked for are zero behind `zero_by` of the steps, and the rest only learns.
Then they are left out as by prune_width, with nothing to make up for.

Norms alone tell little of what a neuron does. They are weighed, so that in the beginning each counts as much as its
`importance` (prune_width says which there are), and then in proportion to what its norm becomes: an adaptive group
lasso (Wang and Leng, "A note on adaptive group lasso", Computational Statistics and Data Analysis 52, 2008). `norm`
weighs all alike and needs no calibration audio.

The losses are those of distill. The held-out loss is that of the model without those that leave, from the first check
on, and the best state is kept: on those clips what comes out is no worse than leaving them out at once.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from sottovoce.methods import method
from sottovoce.methods.distill import DecoderTokens, needs_of, refuse_no_loss
from sottovoce.methods.prune_width import (
    Heads,
    Importance,
    Judge,
    MultipleOf,
    Neurons,
    Over,
    chosen_inner,
    leave_out,
    leaving_of,
    refuse_widths,
    reshape_widths,
    shared_counts,
    widths_left,
)
from sottovoce.methods.words import learned
from sottovoce.models.base import SpeechModel
from sottovoce.training.augment import Augmentation
from sottovoce.training.data import Material
from sottovoce.training.group_lasso import GroupLasso, Groups, Norms, ReaderLatent
from sottovoce.training.latent import Latent, PartsLatent
from sottovoce.training.losses import Losses
from sottovoce.training.recover import recover
from sottovoce.training.refuse import refuse_training
from sottovoce.training.settings import Training
from sottovoce.weights.weight import Layer

DAMP = 0.01  # prune_width's own, for importance: obs


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    """What it trains on, and calibration audio where it looks at activations."""
    return needs_of(options) | (frozenset() if options["importance"] == "norm" else frozenset({"data"}))


def _refuse_model(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if reason := refuse_training(model, names, options):
        return reason
    if not options["heads"] and not options["neurons"]:
        return "group_lasso leaves nothing out; heads: 1, or neurons: 0.25, would work"
    if options["learning_rate"] == "auto":
        return (
            "group_lasso: learning_rate: auto asks trials of a tenth of the steps, in which nothing would go to zero; "
            "0.0001 would work"
        )
    return refuse_widths(model, names, options)


@method(
    scope="model",
    owns="structure",
    needs=_needs,
    refuse=refuse_no_loss,
    refuse_model=_refuse_model,
    where=("blocks",),
    writes=lambda options: ("width",),
    reshape=reshape_widths,
    words=learned,
    left=widths_left,
)
def group_lasso(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    heads: Heads = 0,
    neurons: Neurons = 0,
    importance: Annotated[
        Importance | Literal["norm"], Field(description="what norms count as in the beginning: see above")
    ] = "wanda",
    over: Over = "block",
    multiple_of: MultipleOf = 32,
    zero_by: Annotated[
        float,
        Field(gt=0, le=1, description="share of the steps behind which all that leave are zero; the others only learn"),
    ] = 0.7,
    tokens: DecoderTokens = "own",
    losses: Annotated[Losses, Losses(encoder=1.0, logits=1.0)],
    augmentation: Augmentation,
    training: Training,
) -> Mapping[str, str]:
    """Train heads and neurons to zero and leave them out; every layer keeps its name."""
    if importance != "norm" and not material.clips:
        raise ValueError(f"importance: {importance} needs at least one calibration clip; importance: norm needs none")
    options = {"heads": heads, "neurons": neurons, "multiple_of": multiple_of}
    chosen = chosen_inner(model, tuple(layers), options)
    scores = {} if importance == "norm" else Judge(model, layers, importance, DAMP).before_any(material, chosen)
    latents: dict[str, Latent] = {name: PartsLatent(layer) for name, layer in layers.items()}
    latents |= {inner.reader: ReaderLatent(layers[inner.reader], inner) for _, inner, _ in chosen}
    groups = [Groups(model, inner, latents, scores.get(inner.name)) for _, inner, _ in chosen]
    goes = leaving_of(model, chosen, options)

    def stay(norms: Norms) -> dict[str, int]:
        now = shared_counts(chosen, norms, goes) if over == "stack" else goes
        return {name: len(found) - now[name] for name, found in norms.items()}

    lasso = GroupLasso(groups, stay, zero_by)
    recover(
        model,
        layers,
        material.lessons,
        latents,
        losses,
        training,
        tokens=tokens,
        augmentation=augmentation,
        schedule=lasso,
    )
    for group in groups:
        assert group.reader.kept is not None
        leave_out(model, layers, group.inner, group.reader.kept, None, 0.0)
    for layer in layers.values():
        layer.settle()
    return {name: name for name in model.shapes}
