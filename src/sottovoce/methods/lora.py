"""Recovery through low-rank adapters: the base stays, or moves by a low-rank step only.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685. The losses are those
of distill. Kept, the factors are the layer's low-rank part beside a masked or quantized base that no longer
moves (as in QLoRA, Dettmers et al., 2023, arXiv:2305.14314). Merged, they are added to the base before its
mask and its grid in every pass, so that nothing is lost when they go. Every layer that `where` names gets an
adapter; `*.layers.*` are the linears of the blocks.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field

from sottovoce.methods import method
from sottovoce.methods.distill import DecoderTokens, needs_of, refuse_no_loss
from sottovoce.methods.options import FactorDtype, dtype_of
from sottovoce.training.augment import Augmentation
from sottovoce.training.data import Material
from sottovoce.training.latent import AdapterLatent, Latent, MergedLatent
from sottovoce.training.losses import Losses
from sottovoce.training.recover import recover
from sottovoce.training.refuse import refuse_training
from sottovoce.training.settings import Training
from sottovoce.weights.weight import Layer, LayerShape


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    most = min(shape.rows, shape.columns)
    if options["rank"] >= most:
        size = f"{shape.name} ({shape.rows} x {shape.columns})"
        return f"lora: rank={options['rank']} for {size}; 1 to {most - 1} would work"
    return refuse_no_loss(shape, options)


@method(
    scope="model",
    owns="values",
    refuse_model=refuse_training,
    needs=needs_of,
    refuse=_refuse,
    writes=lambda options: () if options["merge"] else ("low_rank",),
    imitates=("encoder", "hidden"),
)
def lora(
    model: Any,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    rank: Annotated[int, Field(ge=1, description="columns of each adapter")] = 16,
    merge: Annotated[bool, Field(description="add the adapters to the base instead of keeping them as a part")] = False,
    norms: Annotated[bool, Field(description="train the norms and biases of the same blocks too")] = True,
    dtype: FactorDtype = "float16",
    tokens: DecoderTokens = "own",
    losses: Annotated[Losses, Losses(encoder=1.0, logits=1.0)],
    augmentation: Augmentation,
    training: Training,
) -> None:
    """Learn with adapters only."""
    generator = torch.Generator().manual_seed(training.seed)
    latents: dict[str, Latent] = {
        name: MergedLatent(layer, rank, generator) if merge else AdapterLatent(layer, rank, dtype_of(dtype), generator)
        for name, layer in layers.items()
    }
    recover(
        model, layers, material.lessons, latents, losses, training, tokens=tokens, augmentation=augmentation, rest=norms
    )
