"""The training loop: steps, checks of the held-out loss, an early stop, a state on disk to resume from.

Batches come by number and randomness by seed, so a training that was killed ends with the same bits as
one that was not.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from sottovoce.progress import Track, silent
from sottovoce.training.batch import Batch, Batches
from sottovoce.training.settings import Training
from sottovoce.training.state import Progress, TrainingFolder

SAVE_SECONDS = 300.0

Losses = dict[str, Tensor]
Objective = Callable[[Any], Losses]


class NotFiniteError(ValueError):
    """A loss or a gradient that is not finite: the training has diverged, or its data are broken."""


class Student(Protocol):
    """What is trained: parameters by name, and a way from them into a module's weights and back."""

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What the optimizer moves."""

    def write(self) -> None:
        """Compute the module's weights from the parameters."""

    def pull(self) -> None:
        """Carry the gradients of the module's weights back to the parameters."""

    def train(self, mode: bool) -> None:
        """Switch the module between training and evaluation."""


class Schedule(Protocol):
    """What follows the course of a training."""

    def begin(self, step: int, steps: int) -> None:
        """Step `step` of `steps`, from 0, begins: the student is about to write the weights that it learns with."""

    def stepped(self, step: int, steps: int) -> None:
        """The optimizer has made that step."""

    def end(self) -> None:
        """It is over: what is written from now on is what would be stored."""


class _Steady:
    def begin(self, step: int, steps: int) -> None: ...

    def stepped(self, step: int, steps: int) -> None: ...

    def end(self) -> None: ...


def train(
    student: Student,
    batches: Batches,
    objective: Objective,
    settings: Training,
    folder: Path,
    track: Track = silent,
    *,
    judge: Objective | None = None,
    device: str = "cpu",
    schedule: Schedule | None = None,
    decay: bool = True,
) -> list[dict[str, Any]]:
    """Train `student`, or go on with what `folder` holds; returns the curve, a mapping each step.

    objective  the losses of one batch by name; "loss" is the one that is minimised, a mean over its terms
    judge      the same for held-out batches, where another loss decides which state is best; else the objective
    schedule   told of each step before it writes, and of its end before what is learned is checked
    decay      whether the learning rate falls after the warm-up

    The student ends at its best held-out loss; without held-out batches, at the last step. Raises
    NotFiniteError for a loss or a gradient that is not finite: the last good state stays in `folder`.
    """
    course = schedule or _Steady()
    run = _Run(student, batches, objective, judge or objective, settings, TrainingFolder(folder), device, course, decay)
    with torch.enable_grad():
        run.go(track)
    return run.folder.curve()


class _Run:
    def __init__(
        self,
        student: Student,
        batches: Batches,
        objective: Objective,
        judge: Objective,
        settings: Training,
        folder: TrainingFolder,
        device: str,
        schedule: Schedule,
        decay: bool,
    ) -> None:
        from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

        self.student, self.batches, self.objective, self.judge = student, batches, objective, judge
        self.settings, self.folder = settings, folder
        self.course = schedule
        self.device = torch.device(device).type
        self.parameters = student.parameters
        self.steps = max(1, math.ceil(batches.steps_per_epoch * settings.epochs / settings.accumulate))
        self.every = max(1, round(batches.steps_per_epoch / settings.accumulate / settings.checks))
        assert settings.learning_rate != "auto", "trials find it before"
        # a scale is no weight, whatever its shape: decay would shrink its grid
        decays = {name: p.ndim > 1 and not name.endswith(".scale") for name, p in self.parameters.items()}
        decayed = [p for name, p in self.parameters.items() if decays[name]]
        others = [p for name, p in self.parameters.items() if not decays[name]]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=settings.learning_rate, betas=(0.9, 0.98), fused=True
        )
        self.warm = round(self.steps * settings.warmup)
        if decay:
            self.schedule = get_cosine_schedule_with_warmup(self.optimizer, self.warm, self.steps)
        else:
            self.schedule = get_constant_schedule_with_warmup(self.optimizer, self.warm)
        self.progress = Progress()
        self.lines: list[dict[str, Any]] = []
        self.loss: float | None = None

    def go(self, track: Track) -> None:
        if self.folder.started:
            self.progress = self.folder.restore(self.parameters, self.optimizer, self.schedule)
        else:
            self._check_room()
            self.folder.cut_curve(-1)
            torch.manual_seed(self.settings.seed)
            self.student.write()
            self._check()
        if not self.progress.finished:
            self._steps(track)
        if self.progress.best is not None:
            self.folder.restore_best(self.parameters)
        self.course.end()
        self.student.write()
        self.student.train(False)

    def _check_room(self) -> None:
        """Raise ValueError if the disk cannot hold two states (the new one before the old goes) and the best."""
        parameters = sum(4 * parameter.numel() for parameter in self.parameters.values())
        needed = parameters * (2 * 3 + 2)
        there = next(path for path in (self.folder.path, *self.folder.path.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < needed:
            raise ValueError(
                f"a training in {self.folder.path} keeps up to {needed / 1e6:,.0f} MB while it runs, and the disk has "
                f"{free / 1e6:,.0f} MB left; free some, or name an output on another disk"
            )

    def _steps(self, track: Track) -> None:
        first, saved = self.progress.step, time.monotonic()
        started = saved - self.progress.seconds
        numbers = range(first * self.settings.accumulate, self.steps * self.settings.accumulate)
        # a CPU that learns has no core left: a batch made beside it costs more than it saves
        with _coming(self.batches, numbers, ahead=self.device != "cpu") as coming:
            for step in track(self._remaining(), self.steps - first, self._told):
                line = self._step(step, coming)
                self.loss = line["loss"]
                self.progress.step, self.progress.seconds = step + 1, round(time.monotonic() - started, 3)
                self.lines.append({**line, "seconds": self.progress.seconds})
                checked = (step + 1) % self.every == 0 or step + 1 == self.steps
                if checked:
                    self._check()
                    self.progress.finished = step + 1 == self.steps or self.progress.stale >= self.settings.patience
                if checked or time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()

    def _remaining(self) -> Iterator[int]:
        """The numbers of the steps to make, until training ends by itself."""
        while not self.progress.finished:
            yield self.progress.step

    def _step(self, step: int, coming: Iterator[Batch]) -> dict[str, Any]:
        self.student.train(True)
        self.optimizer.zero_grad(set_to_none=True)
        self.course.begin(step, self.steps)
        self.student.write()
        sums: dict[str, float] = {}
        for _ in range(self.settings.accumulate):
            batch = next(coming)
            with self._precision():
                losses = self.objective(batch)
            total = losses["loss"] / self.settings.accumulate
            if not math.isfinite(float(total.detach())):
                raise self._broken("loss", float(total.detach()), step, batch)
            total.backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach()) / self.settings.accumulate
        self.student.pull()
        norm = float(clip_grad_norm_(self.parameters.values(), self.settings.clip))
        if not math.isfinite(norm):
            raise self._broken("gradient", norm, step, batch)
        rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.course.stepped(step, self.steps)
        self.schedule.step()
        told = {name: round(value, 6) for name, value in sums.items()}
        return {"step": step + 1, **told, "learning_rate": rate, "gradient": round(norm, 5)}

    def _broken(self, what: str, value: float, step: int, batch: Batch) -> NotFiniteError:
        ids = ", ".join(batch.ids[:4]) + (f" and {len(batch.ids) - 4} more" if len(batch.ids) > 4 else "")
        kept = "nothing is lost"
        if self.folder.started:
            kept = f"the state after step {self.folder.progress().step} is kept"
        return NotFiniteError(
            f"the {what} at step {step + 1} is {value} (utterances {ids}); {kept}; a lower learning_rate, "
            "precision: fp32 or other data would work"
        )

    @torch.no_grad()
    def _check(self) -> None:
        """The held-out loss with the weights as they stand, and whether it is the best so far."""
        self.student.train(False)
        self.course.end()
        self.student.write()
        total, count = 0.0, 0
        for batch in self.batches.held_out():
            with self._precision():
                total += float(self.judge(batch)["loss"]) * len(batch)
            count += len(batch)
        if not count:
            return
        loss = total / count
        told = round(loss, 6) if math.isfinite(loss) else None  # JSON has no word for it
        if self.lines:
            self.lines[-1]["held_out"] = told
        else:
            self.lines.append({"step": 0, "held_out": told, "seconds": 0.0})
        if math.isfinite(loss) and (self.progress.best is None or loss < self.progress.best):
            self.progress.best, self.progress.best_step, self.progress.stale = loss, self.progress.step, 0
            self.folder.save_best(self.parameters)
        elif self.progress.step > self.warm:  # a rate that still rises says little of where it will end
            self.progress.stale += 1

    def _save(self) -> None:
        self.folder.add_to_curve(self.lines)
        self.lines = []
        self.folder.save(self.parameters, self.optimizer, self.schedule, self.progress)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _told(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        best = "" if self.progress.best is None else f", held out {self.progress.best:.3f}"
        return f"training steps{loss}{best}"


@contextmanager
def _coming(batches: Batches, numbers: range, *, ahead: bool) -> Iterator[Iterator[Batch]]:
    """Batches by their numbers; with `ahead` each is made while the one before is learned from."""
    if not ahead:
        yield map(batches.at, numbers)
        return
    with ThreadPoolExecutor(1) as pool:
        yield _made(pool, batches, numbers)
        pool.shutdown(wait=False, cancel_futures=True)


def _made(pool: ThreadPoolExecutor, batches: Batches, numbers: range) -> Iterator[Batch]:
    coming = pool.submit(batches.at, numbers[0])
    for number in numbers[1:]:
        batch, coming = coming.result(), pool.submit(batches.at, number)
        yield batch
    yield coming.result()
