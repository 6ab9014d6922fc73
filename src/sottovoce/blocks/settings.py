"""How a unit is reconstructed: the options that every method which learns by it takes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Learning(BaseModel):
    """How long a unit learns, from how many clips at a time, and when it stops."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(default=100, ge=1, description="steps of the optimizer on one unit")
    batch: int = Field(default=4, ge=1, description="clips whose errors make one step")
    held_out: float = Field(
        default=0.125, ge=0, lt=1, description="the share of clips that a unit's error is checked on, drawn by seed"
    )
    checks: int = Field(
        default=10,
        ge=1,
        description="checks of the held-out error; the best state is kept, of a table that of any step",
    )
    patience: int = Field(default=6, ge=1, description="checks without a better error at which a unit stops")
    precision: Literal["bf16", "fp32"] = Field(
        default="bf16", description="of products while learning; checks are in float32"
    )
    seed: int = Field(default=0, ge=0, description="of the order of clips and of those held out")
