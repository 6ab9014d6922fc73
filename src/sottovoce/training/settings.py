"""How a training runs: the options that every method which trains takes."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Training(BaseModel):
    """AdamW with linear warm-up and cosine decay (Loshchilov and Hutter, 2019, arXiv:1711.05101), and when to stop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=1.0, gt=0, description="passes over the training audio")
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        default=1e-4,
        description="learning rate at the end of the warm-up, cosine decay to 0 after it; auto: that of the least "
        "held-out loss, by trials of a tenth of the steps",
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="warm-up, as a share of the steps")
    batch: int = Field(default=16, ge=1, description="utterances in a batch")
    accumulate: int = Field(default=1, ge=1, description="gradient accumulation: batches per step")
    weight_decay: float = Field(default=0.0, ge=0, description="weight decay of weights; biases and norms have none")
    clip: float = Field(default=1.0, gt=0, description="gradient clipping: largest norm")
    precision: Literal["bf16", "fp32"] = Field(
        default="bf16", description="precision of matrix products in the forward and backward pass"
    )
    checkpoint_activations: bool = Field(
        default=False, description="recompute activations in the backward pass instead of keeping them (less memory)"
    )
    held_out: float = Field(default=0.05, ge=0, lt=1, description="share of the utterances held out to check the loss")
    checks: int = Field(default=4, ge=1, description="checks of the held-out loss in one epoch")
    patience: int = Field(
        default=12, ge=1, description="checks without a better loss, after the warm-up, at which it stops"
    )
    seed: int = Field(default=0, ge=0, description="seed of the order, the augmentation and new parameters")
