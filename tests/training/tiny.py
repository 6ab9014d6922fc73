"""The smallest training there is: a line through points, and ways to stop it."""

import random

import torch
from torch.nn import Parameter

from sottovoce.training.batch import Batch
from sottovoce.training.settings import Training
from sottovoce.training.state import TrainingFolder
from sottovoce.training.trainer import train

POINTS, HELD = 24, 4
SETTINGS = {"epochs": 2, "batch": 4, "checks": 2, "learning_rate": 0.05, "precision": "fp32", "patience": 9}


class Line:
    """A student whose module holds copies of its parameters, as a model holds what its parts say."""

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.parameters = {
            "weight": Parameter(torch.randn(2, 3, generator=generator)),
            "bias": Parameter(torch.randn(2, generator=generator)),
        }
        self.training, self.module = False, {}

    def write(self):
        self.module = {name: p.detach().clone().requires_grad_() for name, p in self.parameters.items()}

    def pull(self):
        for name, parameter in self.parameters.items():
            parameter.grad = self.module[name].grad

    def train(self, mode):
        self.training = mode

    def __call__(self, x):
        return x @ self.module["weight"].T + self.module["bias"]


class Points:
    """Batches of points in an order that changes each epoch; the last few are held out."""

    def __init__(self, batch=4, held=HELD, count=POINTS):
        generator = torch.Generator().manual_seed(1)
        self.x, self.y = (torch.randn(count + held, width, generator=generator) for width in (3, 2))
        self.batch, self.count, self.held = batch, count, held

    @property
    def steps_per_epoch(self):
        return -(-self.count // self.batch)

    def at(self, number):
        epoch, place = divmod(number, self.steps_per_epoch)
        order = list(range(self.count))
        random.Random(epoch).shuffle(order)
        return self._of(order[place * self.batch : (place + 1) * self.batch])

    def held_out(self):
        if self.held:
            yield self._of(range(self.count, self.count + self.held))

    def _of(self, chosen):
        none = torch.zeros(len(chosen), 0, dtype=torch.int64)
        return Batch(tuple(f"p{i}" for i in chosen), tuple(self.x[i] for i in chosen), none, none)


class Squares:
    """The mean squared error; in training with noise of the global generator, as dropout would have it."""

    def __init__(self, line, points, noise=0.1):
        self.line, self.points, self.noise, self.trained = line, points, noise, 0

    def __call__(self, batch):
        x = torch.stack(batch.features)
        if self.line.training:
            self.trained += 1
            x = x + self.noise * torch.randn(x.shape)
        y = self.points.y[[int(name[1:]) for name in batch.ids]]
        return {"loss": (self.line(x) - y).square().mean()}


class Killed(BaseException):
    """What a test raises where a process would die."""


def stopping_at(step, how=Killed):
    """An objective that dies in its `step`th pass of training, counted from 1."""

    class Stopping(Squares):
        def __call__(self, batch):
            if self.line.training and self.trained + 1 == step:
                raise how
            return super().__call__(batch)

    return Stopping


def fit(folder, objective=Squares, points=None, **settings):
    """A new line after training in `folder`, or after going on with what is there."""
    line, points = Line(), points or Points()
    train(line, points, objective(line, points), Training(**{**SETTINGS, **settings}), folder)
    return line


def left(folder, line):
    """All that a training leaves, for comparison: parameters, what the module holds, the curve without its seconds."""
    tensors = {f"parameter {name}": p.detach().clone() for name, p in line.parameters.items()}
    tensors |= {f"module {name}": p.detach().clone() for name, p in line.module.items()}
    curve = [{key: v for key, v in row.items() if key != "seconds"} for row in TrainingFolder(folder).curve()]
    return tensors, curve


def assert_same_end(found, expected):
    assert found[1] == expected[1]
    assert set(found[0]) == set(expected[0])
    for name, tensor in found[0].items():
        assert torch.equal(tensor, expected[0][name]), name
