"""Whether the weights of a checkpoint are those of its config.json: as many, and of the same shapes."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sottovoce.models.checkpoint import Checkpoint

_CURE = "its config.json belongs to another model; copy that of the model that this one was trained from"


@contextmanager
def blamed_on_config(checkpoint: Checkpoint) -> Iterator[None]:
    """Within, what transformers raises about a config is one sentence that names the file."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:  # of many kinds: validation, division by heads, shapes
        if "memory" in str(error):
            raise
        told = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{checkpoint.folder / 'config.json'} does not describe a model that can be built ({told}); correct it, or "
            "copy that of the model that this one was trained from"
        ) from error


def check_fit(
    checkpoint: Checkpoint, report: Mapping[str, Any], root: str = "model", idle: Collection[str] = ()
) -> None:
    """Hold transformers' report of what it loaded against the promise that all of a model is read.

    root  the module inside transformers' that is the model
    idle  tensors that only a training of its own reads: they may be there or not

    Raises ValueError for weights that are missing, of another shape, or part of the model and left out; warns of
    others that are left out, as those of a head of another task.
    """
    missing, wrong, unused = (
        sorted(key for key in report[f"{kind}_keys"] if key not in idle)
        for kind in ("missing", "mismatched", "unexpected")
    )
    if missing:
        raise ValueError(
            f"{checkpoint.name} lacks {len(missing)} weights that its config.json asks for, first {missing[0]}"
        )
    if wrong:
        name, found, asked = wrong[0]
        raise ValueError(
            f"{checkpoint.name}: {name} has the shape {_shape(found)}, and its config.json asks for {_shape(asked)}; "
            f"{_CURE}"
        )
    if inner := [name for name in unused if name.startswith(f"{root}.")]:
        raise ValueError(
            f"{checkpoint.name} holds {len(inner)} weights for which the model of its config.json has no place, first "
            f"{inner[0]}; {_CURE}"
        )
    if unused:
        warnings.warn(
            f"{checkpoint.name} holds {len(unused)} weights beside the model, first {unused[0]}; they are left out",
            stacklevel=2,
        )


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape))
