"""`make bench` measures every method that compresses, also one that was added a minute ago."""

import pytest
from bench.methods import compressing_methods, recipe_of

from sottovoce.methods import METHODS, TRAINING_NEEDS, find
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve


def test_only_methods_that_train_are_left_out():
    left_out = set(METHODS) - set(compressing_methods())
    assert {"finetune", "distill", "lora"} <= left_out
    for name in left_out:
        assert find(name).needs(find(name).options.fill(name, {})) & TRAINING_NEEDS


@pytest.mark.parametrize("name", compressing_methods())
def test_every_other_method_has_a_recipe_that_the_checker_takes(name, toy):
    recipe = recipe_of(name, open_layout(resolve(toy("whisper"))))
    assert name in [step.method.name for step in recipe.steps]
