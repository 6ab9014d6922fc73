"""How far methods leave a small trained model that outliers were planted in: the built-in ones, on built-in speech."""

from dataclasses import replace

import pytest

from sottovoce.calibration.clips import calibrate
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import divergence
from sottovoce.numbers.rounding import Rounding
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.data import Material
from tests.planted import plant

BLOCKS = "*.layers.*"


# the first in every run, the others with `make slow`
SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2)))


class Planted:
    """A built-in model, clips that it is calibrated on and others that it is measured on."""

    def __init__(self, name, calibration=4, test=4):
        self.target = find_target(f"builtin:{name}")
        self.reference, _ = self.target.open()
        self.calibration = self._clips("calibration", calibration)
        self.test = self._clips("test", test)

    def _clips(self, name, count):
        corpus = read_corpus(f"builtin:{name}", need_text=False).select(count, 0)
        return calibrate(self.reference, corpus).clips

    def model(self, steps, *, seed=0, activation_bits=None, **planting):
        """The model with outliers after `steps`, its blocks' activations rounded for each vector; and its layers."""
        model, layers = self.target.open()
        plant(model, layers, seed=seed, **planting)
        if steps:
            compress_layers(
                model,
                layers,
                select(read_recipe({"steps": steps}), self.target.layout()),
                Material(self.calibration),
            )
        for layer in layers.values():
            if activation_bits and ".layers." in layer.name:
                layer.input = replace(layer.input, rounding=Rounding(bits=activation_bits))
                model.assign(layer)
        return model, layers

    def divergence(self, steps, **settings):
        """KL to the model as it was, in nats a token."""
        return divergence(self.model(steps, **settings)[0], self.reference, self.test)


def rtn(bits):
    """Blocks rounded to nearest, a scale for each output."""
    return {"rtn": {"bits": bits, "where": BLOCKS}}
