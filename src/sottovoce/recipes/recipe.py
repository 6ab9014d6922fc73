"""A recipe: checked steps in order, each a method with its layers' patterns and all of its options."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sottovoce.methods import TRAINING_NEEDS, Method
from sottovoce.methods.options import frontend_options


@dataclass(frozen=True)
class Step:
    """One method with its layers' patterns and all of its options."""

    method: Method
    where: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def needs(self) -> frozenset[str]:
        """The statistics it uses."""
        return self.method.needs(self.options)

    @property
    def label(self) -> str:
        """As a table shows it: the method and the options that differ from their defaults."""
        defaults = {name: field.default for name, field in self.method.options.schema.model_fields.items()}
        told = [f"{name}={value}" for name, value in self.options.items() if value != defaults[name]]
        return f"{self.method.name}({', '.join(told)})" if told else self.method.name

    def on(self, components: frozenset[str]) -> "Step":
        """The step as it holds for layers of these components."""
        if "frontend" not in components or not self.method.options.takes_grid:
            return self
        return replace(self, options=frontend_options(self.options))

    def as_document(self) -> dict[str, Any]:
        """The step with every option written out."""
        return {self.method.name: {"where": list(self.where), **self.options}}


@dataclass(frozen=True)
class Recipe:
    """Checked steps in order, under a name; the runtime that they are for, if they are for one."""

    name: str
    steps: tuple[Step, ...]
    target: str | None = None

    @cached_property
    def key(self) -> str:
        """16 hex digits that change with any option, defaults included."""
        text = json.dumps(self.as_document(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def needs(self) -> frozenset[str]:
        """What any step asks of calibration audio; empty if the recipe works without."""
        return frozenset().union(*(step.needs for step in self.steps)) - TRAINING_NEEDS

    @property
    def trains(self) -> frozenset[str]:
        """What any step asks of training audio, "audio" or "transcripts" too; empty if nothing is trained."""
        return frozenset().union(*(step.needs for step in self.steps)) & TRAINING_NEEDS

    def as_document(self) -> dict[str, Any]:
        """The recipe with every option written out, as the artifact keeps it."""
        return {"steps": [step.as_document() for step in self.steps]}
