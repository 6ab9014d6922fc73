"""What the columns of a table say of a step: by the part that its method owns, unless the method says it itself."""

from collections.abc import Callable, Mapping
from typing import Any

COLUMNS = ("quantization", "activations", "sparsity", "low_rank", "structure", "recovery")
Words = Callable[[str, Mapping[str, Any]], Mapping[str, str]]  # (name, options) -> what some of COLUMNS say


def quantized(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    """Of a method that writes the base: "gptq 4-bit g32"."""
    size = options.get("group_size", "")
    spread = f"g{size}" if isinstance(size, int) else size
    return {"quantization": f"{name} {options['bits']}-bit {spread}".strip()}


def named(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    """Of a change of basis before the rounding: its name."""
    return {"quantization": name}


def dropped(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    """Of a mask: "wanda 50 %", "wanda 2:4"."""
    amount = options["sparsity"]
    shown = amount if isinstance(amount, str) else f"{100 * float(amount):g} %"
    return {"sparsity": f"{name} {shown}"}


def learned(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    """Of recovery training, what was learned, how long and how fast: "distill encoder+0.5 logits 2 ep lr 0.001"."""
    weights = {loss: options.get(loss, 0.0) for loss in ("labels", "encoder", "logits", "hidden")}
    losses = "+".join(loss if weight == 1 else f"{weight:g} {loss}" for loss, weight in weights.items() if weight)
    kept = f"r={options['rank']}" if "rank" in options else ""
    rate = options["learning_rate"]
    pace = f"{options['epochs']:g} ep lr {rate if isinstance(rate, str) else f'{rate:g}'}"
    return {"recovery": " ".join(filter(None, (name, kept, losses, pace)))}


def nothing(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    """Of a step that only a model's layout can tell of."""
    return {}


BY_PART: Mapping[str, Words] = {"base": quantized, "basis": named, "mask": dropped, "values": learned}
