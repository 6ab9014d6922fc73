"""The methods of compression, one file each, and the one table that names them.

To add a method: write methods/<name>.py with one function under `@method`, add its line to METHODS,
and run the tests; the contract tests find it. docs/adding-a-method.md walks through one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

from sottovoce.methods.options import OptionTable
from sottovoce.methods.words import BY_PART, Words, nothing
from sottovoce.nearest import unknown
from sottovoce.weights.weight import LayerShape

METHODS = {
    "activations": "sottovoce.methods.activations:activations",
    "armor": "sottovoce.methods.armor:armor",
    "autoround": "sottovoce.methods.autoround:autoround",
    "awq": "sottovoce.methods.awq:awq",
    "distill": "sottovoce.methods.distill:distill",
    "drop_layers": "sottovoce.methods.drop_layers:drop_layers",
    "finetune": "sottovoce.methods.finetune:finetune",
    "global_magnitude": "sottovoce.methods.magnitude:global_magnitude",
    "gptq": "sottovoce.methods.gptq:gptq",
    "group_lasso": "sottovoce.methods.group_lasso:group_lasso",
    "hqq": "sottovoce.methods.hqq:hqq",
    "kv_cache": "sottovoce.methods.kv_cache:kv_cache",
    "liteasr": "sottovoce.methods.liteasr:liteasr",
    "llm_int8": "sottovoce.methods.llm_int8:llm_int8",
    "lora": "sottovoce.methods.lora:lora",
    "low_rank": "sottovoce.methods.low_rank:low_rank",
    "magnitude": "sottovoce.methods.magnitude:magnitude",
    "maskllm": "sottovoce.methods.maskllm:maskllm",
    "merge_layers": "sottovoce.methods.merge_layers:merge_layers",
    "myqasr": "sottovoce.methods.myqasr:myqasr",
    "omniquant": "sottovoce.methods.omniquant:omniquant",
    "osplus": "sottovoce.methods.osplus:osplus",
    "owl": "sottovoce.methods.owl:owl",
    "palettize": "sottovoce.methods.palettize:palettize",
    "pool_time": "sottovoce.methods.pool_time:pool_time",
    "prune_lora": "sottovoce.methods.prune_lora:prune_lora",
    "prune_width": "sottovoce.methods.prune_width:prune_width",
    "quantize_lora": "sottovoce.methods.quantize_lora:quantize_lora",
    "quarot": "sottovoce.methods.quarot:quarot",
    "recover": "sottovoce.methods.recover:recover",
    "ria": "sottovoce.methods.ria:ria",
    "rsq": "sottovoce.methods.rsq:rsq",
    "rtn": "sottovoce.methods.rtn:rtn",
    "shorten_context": "sottovoce.methods.shorten_context:shorten_context",
    "slim_quant": "sottovoce.methods.slim_quant:slim_quant",
    "smoothquant": "sottovoce.methods.smoothquant:smoothquant",
    "sparsegpt": "sottovoce.methods.sparsegpt:sparsegpt",
    "sparsegpt_joint": "sottovoce.methods.sparsegpt:sparsegpt_joint",
    "sparsify_activations": "sottovoce.methods.sparsify_activations:sparsify_activations",
    "spinquant": "sottovoce.methods.spinquant:spinquant",
    "spqr": "sottovoce.methods.spqr:spqr",
    "tesseraq": "sottovoce.methods.tesseraq:tesseraq",
    "trim_vocabulary": "sottovoce.methods.trim_vocabulary:trim_vocabulary",
    "wanda": "sottovoce.methods.wanda:wanda",
}

Scope = Literal["layer", "block", "model"]
OfModel = Literal["structure", "vocabulary", "sparsity"]
Part = Literal["base", "mask", "low_rank", "factors", "wrappers", "basis", "values", "input", "output"] | OfModel
# what a step leaves behind that a later one has to know of
Mark = Part | Literal["turn", "range", "zeros", "width", "factor_mask"]
Marks = Callable[[Mapping[str, Any]], tuple[Mark, ...]]
TRAINING_NEEDS = frozenset({"audio", "transcripts"})
_PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}")
_REPOSITORY = re.compile(r"github\.com/[\w-]+/[\w-]+")
RefuseModel = Callable[[Any, Sequence[str], Mapping[str, Any]], str | None]
Reshape = Callable[[Any, Sequence[str], Mapping[str, Any]], Mapping[str, str]]
Left = Callable[[Any, Sequence[str], Mapping[str, Any]], str]
Needs = frozenset[str] | Callable[[Mapping[str, Any]], frozenset[str]]


@dataclass(frozen=True)
class Method:
    """One method: its function, what it works on, what it owns and what it must see.

    scope   "layer": (layer, stats, **options) -> what it owns: a Weight, or an InputPath if it owns "input", or a
            Rounding if it owns "output", or one of each in the order of `parts` (one Weight for all of its parts);
            "block": (block, **options) -> None; "model": (model, layers, material, **options) -> None, or if it
            owns "structure" the name now of every layer that stays, by the one that it had
    parts   what it replaces: parts of a weight, the input path or the output's rounding; or the basis, or the values
            of the parts that are there: it moves them and leaves masks and grids as they are; or the structure of
            the model; or its vocabulary, which tokens there are; or the sparsity of each layer, for the pruners that
            follow
    needs   which of "gram", "square", "absmax", "absolute", "attended", "total", "low", "high", "sample", "data"
            (calibration) and "audio", "transcripts" (training) it uses; may depend on the options. "head" is the Gram
            matrix of what a head reads, where a block method with "data" has its unit's output for everything else
    after_norms  a block method that works on the sites that a norm writes, and on no others
    refuse  says why it cannot work on a layer with these options, or None; asked before the model opens
    refuse_model  the same of all its layers at once: (the model without weights, their names, options) -> str | None
    where   the patterns of the layers that it works on where a recipe names none
    moves_basis  whether, with these options, it changes the basis too, before it writes the part that it owns
    writes  what it leaves behind with these options, which no later step may overwrite: its parts, a rotation of the
            residual stream ("turn"), a range that was calibrated ("range"), a threshold of an input ("zeros"), blocks
            that are narrower ("width"), zeros in a low-rank term's right factor ("factor_mask")
    words   what a table says of it with these options
    left    of a method that changes the structure or the vocabulary, and has no other words: what a table says that it
            leaves of a model without weights, (layout before it, names of its layers, options): "encoder 5 of 6 blocks"
    reshape  of a method that owns the structure: does to a model without weights what the method will do to its layout,
             (layout, names of its layers, options), and returns the names as the method does
    imitates  those of the options under which it learns from the uncompressed model's residual stream
    """

    name: str
    scope: Scope
    parts: tuple[Part, ...]
    function: Callable[..., Any]
    options: OptionTable
    needs_of: Needs
    after_norms: bool
    refuse: Callable[[LayerShape, Mapping[str, Any]], str | None]
    refuse_model: RefuseModel
    where: tuple[str, ...]
    moves_basis: Callable[[Mapping[str, Any]], bool]
    writes: Marks
    words: Words
    imitates: tuple[str, ...]
    reshape: Reshape | None
    left: Left | None

    @property
    def owns(self) -> Part:
        """The first of its parts, which tells what kind of method it is."""
        return self.parts[0]

    @property
    def places(self) -> tuple[str, ...]:
        """The attributes of a layer that hold its parts, of which a layer method returns one each."""
        return tuple(dict.fromkeys(part if part in ("input", "output") else "weight" for part in self.parts))

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

    @property
    def paper(self) -> str:
        """Where it comes from: the first paper, or else repository, that its text names; "" if it names none."""
        named = _PAPER.search(self.text) or _REPOSITORY.search(self.text)
        return named[0] if named else ""


def method(
    *,
    scope: Scope,
    owns: Part | tuple[Part, ...],
    needs: Needs = frozenset(),
    after_norms: bool = False,
    refuse: Callable[[LayerShape, Mapping[str, Any]], str | None] = lambda shape, options: None,
    refuse_model: RefuseModel = lambda model, names, options: None,
    where: tuple[str, ...] = ("*",),
    moves_basis: Callable[[Mapping[str, Any]], bool] = lambda options: False,
    writes: Marks | None = None,
    words: Words | None = None,
    imitates: tuple[str, ...] = (),
    reshape: Reshape | None = None,
    left: Left | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function as a method; its keyword-only parameters are its options.

    writes are its parts where it says nothing else, and words those of the first of them (words.py), or none beside
    left.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        options = OptionTable.of(function)
        parts = (owns,) if isinstance(owns, str) else owns
        marks = writes or (lambda options: parts)
        rules = (
            after_norms,
            refuse,
            refuse_model,
            where,
            moves_basis,
            marks,
            words or (nothing if left else BY_PART[parts[0]]),
            imitates,
            reshape,
            left,
        )
        declared = Method(function.__name__, scope, parts, function, options, needs, *rules)
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
