"""The methods of compression, one file each, and the one table that names them.

To add a method: write methods/<name>.py with one function under `@method`, add its line to METHODS,
and run the tests; the contract tests find it. docs/adding-a-method.md walks through one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

from sottovoce.methods.options import OptionTable
from sottovoce.nearest import unknown
from sottovoce.weight import LayerShape

METHODS = {
    "autoround": "sottovoce.methods.autoround:autoround",
    "awq": "sottovoce.methods.awq:awq",
    "distill": "sottovoce.methods.distill:distill",
    "finetune": "sottovoce.methods.finetune:finetune",
    "gptq": "sottovoce.methods.gptq:gptq",
    "global_magnitude": "sottovoce.methods.magnitude:global_magnitude",
    "hqq": "sottovoce.methods.hqq:hqq",
    "lora": "sottovoce.methods.lora:lora",
    "low_rank": "sottovoce.methods.low_rank:low_rank",
    "magnitude": "sottovoce.methods.magnitude:magnitude",
    "omniquant": "sottovoce.methods.omniquant:omniquant",
    "osplus": "sottovoce.methods.osplus:osplus",
    "quarot": "sottovoce.methods.quarot:quarot",
    "rtn": "sottovoce.methods.rtn:rtn",
    "slim_quant": "sottovoce.methods.slim_quant:slim_quant",
    "smoothquant": "sottovoce.methods.smoothquant:smoothquant",
    "spinquant": "sottovoce.methods.spinquant:spinquant",
    "tesseraq": "sottovoce.methods.tesseraq:tesseraq",
    "wanda": "sottovoce.methods.wanda:wanda",
}

Scope = Literal["layer", "block", "model"]
Part = Literal["base", "mask", "low_rank", "basis", "input", "values"]
TRAINING_NEEDS = frozenset({"audio", "transcripts"})
RefuseModel = Callable[[Any, Sequence[str], Mapping[str, Any]], str | None]
Needs = frozenset[str] | Callable[[Mapping[str, Any]], frozenset[str]]


@dataclass(frozen=True)
class Method:
    """One method: its function, what it works on, what it owns and what it must see.

    scope   "layer": (layer, stats, **options) -> Weight, or InputPath if it owns "input";
            "block": (block, **options) -> None; "model": (model, layers, material, **options) -> None
    owns    the part of a weight that it replaces, the basis, or the values of the parts that are there: it moves
            them and leaves masks and grids as they are
    needs   which of "gram", "square", "absmax", "absolute", "total", "low", "high", "sample", "data" (calibration)
            and "audio", "transcripts" (training) it uses; may depend on the options. "head" is the Gram matrix of
            what a head reads, where a block method with "data" has its unit's output for everything else
    after_norms  a block method that works on the sites that a norm writes, and on no others
    refuse  says why it cannot work on a layer with these options, or None; asked before the model opens
    refuse_model  the same of all its layers at once: (the model without weights, their names, options) -> str | None
    moves_basis  whether, with these options, it changes the basis too, before it writes the part that it owns
    """

    name: str
    scope: Scope
    owns: Part
    function: Callable[..., Any]
    options: OptionTable
    needs_of: Needs
    after_norms: bool
    refuse: Callable[[LayerShape, Mapping[str, Any]], str | None]
    refuse_model: RefuseModel
    moves_basis: Callable[[Mapping[str, Any]], bool]

    def needs(self, options: Mapping[str, Any]) -> frozenset[str]:
        """The statistics that it uses under these options."""
        return self.needs_of(options) if callable(self.needs_of) else self.needs_of

    @property
    def summary(self) -> str:
        """The first line of its file's docstring."""
        return self.text.splitlines()[0]

    @property
    def text(self) -> str:
        """What it does, why, and where it comes from."""
        module = import_module(self.function.__module__)
        own = (self.function.__doc__ or "").strip()
        shared = (module.__doc__ or "").strip()
        return shared if self.function.__name__ == module.__name__.rpartition(".")[2] else f"{own}\n\n{shared}"


def method(
    *,
    scope: Scope,
    owns: Part,
    needs: Needs = frozenset(),
    after_norms: bool = False,
    refuse: Callable[[LayerShape, Mapping[str, Any]], str | None] = lambda shape, options: None,
    refuse_model: RefuseModel = lambda model, names, options: None,
    moves_basis: Callable[[Mapping[str, Any]], bool] = lambda options: False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function as a method; its keyword-only parameters are its options."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        options = OptionTable.of(function)
        rules = (after_norms, refuse, refuse_model, moves_basis)
        declared = Method(function.__name__, scope, owns, function, options, needs, *rules)
        function.declared = declared  # type: ignore[attr-defined]
        return function

    return declare


@cache
def find(name: str) -> Method:
    """The method of that name. Raises ValueError with the nearest names if there is none."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    module, function = METHODS[name].split(":")
    declared = getattr(import_module(module), function).declared
    assert isinstance(declared, Method)
    return declared
