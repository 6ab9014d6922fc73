"""Heads and neurons trained to zero and left out: a group lasso while the model learns from the uncompressed one."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from sottovoce.calibration.gates import gate_gradients
from sottovoce.methods import method
from sottovoce.methods.distill import DecoderTokens, needs_of, refuse_no_loss
from sottovoce.methods.prune_width import (
    Amount,
    Importance,
    Judge,
    chosen_inner,
    dividing,
    leave_out,
    leaving,
    refuse_widths,
    reshape_widths,
    shared_counts,
)
from sottovoce.models.base import SpeechModel
from sottovoce.models.widths import count_of
from sottovoce.training.augment import Augmentation
from sottovoce.training.data import Material
from sottovoce.training.group_lasso import GroupLasso, Groups, Norms, ReaderLatent
from sottovoce.training.latent import Latent, PartsLatent
from sottovoce.training.losses import Losses
from sottovoce.training.recover import recover
from sottovoce.training.refuse import refuse_training
from sottovoce.training.settings import Training
from sottovoce.weights.weight import Layer


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    """What it trains on, and calibration audio where it looks at activations."""
    return needs_of(options) | (frozenset() if options["importance"] == "norm" else frozenset({"data"}))


def _refuse_model(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if not options["heads"] and not options["neurons"]:
        return "group_lasso leaves nothing out; heads: 1, or neurons: 0.25, would work"
    if options["learning_rate"] == "auto":
        return (
            "group_lasso: learning_rate: auto asks trials of a tenth of the steps, in which nothing would go to zero; "
            "0.0001 would work"
        )
    return refuse_training(model, names, options) or refuse_widths(model, names, options)


def _words(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    return {}


@method(
    scope="model",
    owns="structure",
    needs=_needs,
    refuse=refuse_no_loss,
    refuse_model=_refuse_model,
    where=("blocks",),
    writes=lambda options: ("width",),
    reshape=reshape_widths,
    words=_words,
    imitates=("encoder", "hidden"),
)
def group_lasso(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    heads: Annotated[
        Amount, Field(description="heads that leave each attention: how many, or their share, rounded down")
    ] = 0,
    neurons: Annotated[
        Amount,
        Field(description="neurons that leave each MLP: how many, or their share, rounded down by multiple_of"),
    ] = 0,
    importance: Importance | Literal["norm"] = "norm",
    over: Annotated[
        Literal["block", "stack"],
        Field(description="who competes: those of each attention and MLP, or those of all in the encoder or decoder"),
    ] = "block",
    multiple_of: Annotated[
        int,
        Field(ge=1, description="what divides the neurons that stay: a later group_size has to, and kernels like it"),
    ] = 32,
    zero_by: Annotated[
        float,
        Field(gt=0, le=1, description="share of the steps behind which all that leave are zero; the rest only learns"),
    ] = 0.7,
    tokens: DecoderTokens = "own",
    losses: Annotated[Losses, Losses(encoder=1.0, logits=1.0)],
    augmentation: Augmentation,
    training: Training,
) -> Mapping[str, str]:
    """Train heads and neurons to zero and leave them out; every layer keeps its name."""
    options = {"heads": heads, "neurons": neurons, "multiple_of": multiple_of}
    chosen = [(stack, inner, dividing(inner, options)) for stack, inner in chosen_inner(model, tuple(layers), options)]
    scores: dict[str, Tensor] = {}
    if importance == "taylor":
        scores = gate_gradients(model, material.clips, [inner for _, inner, _ in chosen])
    elif importance != "norm":
        scores = Judge(model, layers, importance, 0.01).shares(material, chosen)
    latents: dict[str, Latent] = {name: PartsLatent(layer) for name, layer in layers.items()}
    latents |= {inner.reader: ReaderLatent(layers[inner.reader], inner) for _, inner, _ in chosen}
    groups = [Groups(model, inner, latents, scores.get(inner.name)) for _, inner, _ in chosen]
    goes = {inner.name: leaving(count_of(model, inner), options[inner.kind], multiple) for _, inner, multiple in chosen}

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
