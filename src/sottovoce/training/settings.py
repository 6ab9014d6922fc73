"""How a training runs: the options that every method which trains takes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Training(BaseModel):
    """AdamW with linear warm-up and cosine decay (Loshchilov and Hutter, 2019, arXiv:1711.05101), and when to stop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=1.0, gt=0, description="passes over the training audio")
    learning_rate: float = Field(default=1e-4, gt=0, description="at the end of the warm-up; a cosine to 0 follows")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="the share of the steps that warm up")
    batch: int = Field(default=16, ge=1, description="utterances in one pass")
    accumulate: int = Field(default=1, ge=1, description="passes whose gradients make one step")
    weight_decay: float = Field(default=0.0, ge=0, description="of weights; never of biases and norms")
    clip: float = Field(default=1.0, gt=0, description="the largest norm of a step's gradient")
    precision: Literal["bf16", "fp32"] = Field(
        default="bf16", description="of products in the forward and backward pass"
    )
    checkpoint_activations: bool = Field(
        default=False, description="compute blocks twice instead of keeping what they hold"
    )
    held_out: float = Field(default=0.05, ge=0, lt=1, description="the share of utterances that the loss is checked on")
    checks: int = Field(default=4, ge=1, description="checks of the held-out loss in one epoch")
    patience: int = Field(
        default=12, ge=1, description="checks without a better loss, after the warm-up, at which it stops"
    )
    seed: int = Field(default=0, ge=0, description="of order, augmentation and new parameters")
