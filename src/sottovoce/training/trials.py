"""What a training is not told it finds out: short trials from one start, the least held-out loss wins.

A trial is a training of a tenth of the steps whose rate does not fall: one that ends in a decay favours a rate that a
longer training does not stand. Its result is kept on disk, and the state of one that was killed too, so that trials
resume as a training does.
"""

import json
import math
import shutil
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sottovoce.files.atomic import write_text
from sottovoce.progress import Track, words
from sottovoce.training.batch import Batches
from sottovoce.training.settings import Training
from sottovoce.training.state import TrainingFolder
from sottovoce.training.trainer import NotFiniteError, Objective, Student, train

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
FIRST = 1e-4  # where the search begins
SHARE, FEWEST = 0.1, 16  # of the training's steps; steps of a trial
RESULTS = "trials.json"


class Trials:
    """Trials of one training: each starts from the student as it is now, and leaves it so."""

    def __init__(
        self, student: Student, batches: Batches, settings: Training, folder: Path, track: Track, device: str
    ) -> None:
        self.student, self.batches, self.folder = student, batches, folder
        self.track, self.device = track, device
        fewest = FEWEST * settings.accumulate / batches.steps_per_epoch
        epochs = min(settings.epochs, max(settings.epochs * SHARE, fewest))
        self.settings = settings.model_copy(update={"epochs": epochs, "checks": 1})

    @cached_property
    def start(self) -> dict[str, Tensor]:
        """The parameters before the first trial."""
        return {name: parameter.detach().clone() for name, parameter in self.student.parameters.items()}

    def held_out(self, name: str, rate: float, objective: Objective, judge: Objective | None = None) -> float:
        """The least held-out loss of a trial, infinite if it diverged; looked up where it is known already.

        judge  what decides it where not the objective: losses that differ are compared by one of their own
        """
        known = self._known()
        if name in known:
            return _or_infinite(known[name])
        place, _ = self.folder / name, self.start
        settings = self.settings.model_copy(update={"learning_rate": rate})
        try:
            train(
                self.student,
                self.batches,
                objective,
                settings,
                place,
                self._named(name),
                judge=judge,
                device=self.device,
                decay=False,
            )
            loss = TrainingFolder(place).progress().best
        except NotFiniteError:
            loss = None
        self._restore()
        known[name] = loss
        write_text(self.folder / RESULTS, json.dumps(known))
        shutil.rmtree(place, ignore_errors=True)
        return _or_infinite(loss)

    def best_rate(self, of: str, objective: Objective, judge: Objective | None = None) -> float:
        """Of RATES the one of least held-out loss, found by going from FIRST to where it falls.

        of  the name of the objective among this training's
        """

        def loss(place: int) -> float:
            return self.held_out(trial(of, RATES[place]), RATES[place], objective, judge)

        place = RATES.index(FIRST)
        for step in (1, -1):
            moved = False
            while 0 <= place + step < len(RATES) and loss(place + step) < loss(place):
                place, moved = place + step, True
            if moved:
                break
        return RATES[place]

    def _known(self) -> dict[str, float | None]:
        file = self.folder / RESULTS
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    @torch.no_grad()
    def _restore(self) -> None:
        for name, parameter in self.student.parameters.items():
            parameter.copy_(self.start[name])
            parameter.grad = None
        self.student.write()

    def _named(self, name: str) -> Track:
        return lambda items, total, what: self.track(items, total, lambda: f"trial {name}: {words(what)}")


def trial(of: str, rate: float) -> str:
    """The name of a trial: its objective's and its learning rate."""
    return f"{of}-{rate:g}"


def _or_infinite(loss: float | None) -> float:
    return math.inf if loss is None else loss
