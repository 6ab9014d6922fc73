"""A training on disk: all that an exact resume needs, without pickle; replaced whole, never in part.

state.safetensors   parameters, the optimizer's moments, the random generator
state.json          the step, the best held-out loss so far, the optimizer's and the schedule's numbers
best.safetensors    parameters at the best held-out loss
curve.jsonl         a line each step
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sottovoce.files.atomic import read_json_lines, write_text
from sottovoce.files.replacing import new_folder

STATE, NUMBERS, BEST, CURVE = "state.safetensors", "state.json", "best.safetensors", "curve.jsonl"


@dataclass
class Progress:
    """How far a training is.

    step       steps made
    best       the lowest held-out loss so far, at best_step; None before the first check
    stale      checks since then
    finished   whether it ended, early or not
    seconds    spent on steps and checks
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    finished: bool = False
    seconds: float = 0.0


class TrainingFolder:
    """Where one training keeps its state."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def started(self) -> bool:
        """Whether there is a state to go on from."""
        return (self.path / "last" / NUMBERS).is_file()

    def save(
        self, parameters: Mapping[str, Tensor], optimizer: Optimizer, schedule: LRScheduler, progress: Progress
    ) -> None:
        """Keep the state as it stands. Raises OSError, saying what is kept, if the disk is full."""
        numbered = optimizer.state_dict()
        tensors = {f"parameter.{name}": tensor for name, tensor in parameters.items()}
        for number, moments in numbered["state"].items():
            tensors |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
        tensors["generator"] = torch.get_rng_state()
        document = {
            "progress": asdict(progress),
            "groups": numbered["param_groups"],
            "schedule": {key: value for key, value in schedule.state_dict().items() if key != "lr_lambdas"},
        }
        with new_folder(self.path / "last", lambda _: (STATE, NUMBERS)) as folder:
            write_tensors(folder / STATE, tensors)
            (folder / NUMBERS).write_text(json.dumps(document), encoding="utf-8")

    def restore(self, parameters: Mapping[str, Tensor], optimizer: Optimizer, schedule: LRScheduler) -> Progress:
        """Put everything back as it was saved; the curve forgets what came after."""
        tensors = read_tensors(self.path / "last" / STATE)
        document = json.loads((self.path / "last" / NUMBERS).read_text(encoding="utf-8"))
        _fill(parameters, {name: tensors[f"parameter.{name}"] for name in parameters})
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                state.setdefault(int(number), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": document["groups"]})
        schedule.load_state_dict({**document["schedule"], "lr_lambdas": []})  # functions of the settings
        torch.set_rng_state(tensors["generator"])
        progress = Progress(**document["progress"])
        self.cut_curve(progress.step)
        return progress

    def progress(self) -> Progress:
        """How far the state on disk is."""
        return Progress(**json.loads((self.path / "last" / NUMBERS).read_text(encoding="utf-8"))["progress"])

    def save_best(self, parameters: Mapping[str, Tensor]) -> None:
        """Keep the parameters as the best so far."""
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{BEST}.new"
        write_tensors(temporary, parameters)
        os.replace(temporary, self.path / BEST)

    def restore_best(self, parameters: Mapping[str, Tensor]) -> None:
        """Put the best parameters back."""
        _fill(parameters, read_tensors(self.path / BEST))

    def add_to_curve(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append lines to the training curve."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._curve.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def curve(self) -> list[dict[str, Any]]:
        """The training curve so far."""
        return read_json_lines(self._curve)

    def cut_curve(self, step: int) -> None:
        """Forget the lines after `step`; -1 forgets all of a start that came to no state."""
        kept = [line for line in self.curve() if line["step"] <= step]
        write_text(self._curve, "".join(json.dumps(line) + "\n" for line in kept))

    @property
    def _curve(self) -> Path:
        return self.path / CURVE


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file. Raises OSError if it cannot be written, a full disk among others."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises ValueError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); delete its folder to train from the start") from error


@torch.no_grad()
def _fill(parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(saved[name])
