"""The published ordering on a trained model, in small: docs/log.md has the whole of it."""

import pytest

from sottovoce.calibration.clips import calibrate
from sottovoce.compressing.compress import draw_calibration
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import divergence
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material

GRID = {"bits": 2, "group_size": 32, "symmetric": False}
WHERE = "encoder.layers.[01].*"
FEW = {"iterations": 20, "batch": 2, "checks": 4}


@pytest.fixture(scope="module")
def trained():
    """The built-in Moonshine, six clips to calibrate on and six others to judge by."""
    target = find_target("builtin:moonshine")
    model, _ = target.open()
    clips = calibrate(model, draw_calibration("builtin:calibration", 12, 0)).clips
    return target, model, clips[:6], clips[6:]


@pytest.mark.slow
def test_what_learns_from_a_units_output_is_nearer_than_rounding_to_nearest_at_two_bits(trained):
    target, reference, learned, judged = trained
    found = {}
    for name, options in {"rtn": {}, "autoround": FEW, "omniquant": FEW, "tesseraq": {**FEW, "iterations": 60}}.items():
        model, layers = target.open()
        recipe = read_recipe({"grid": GRID, "steps": [{name: {"where": WHERE, **options}}]})
        compress_layers(model, layers, select(recipe, target.layout()), Material(learned))
        found[name] = divergence(model, reference, judged)
    assert max(found[name] for name in found if name != "rtn") < 0.9 * found["rtn"], found


def test_a_seed_makes_one_model_and_another_seed_another(trained):
    target, _, learned, _ = trained

    def codes(seed):
        model, layers = target.open()
        steps = [{"autoround": {**FEW, "iterations": 12, "seed": seed, "where": "decoder.layers.0.*", **GRID}}]
        compress_layers(model, layers, select(read_recipe({"steps": steps}), target.layout()), Material(learned[:4]))
        return layers["decoder.layers.0.mlp.fc2"].weight.base.codes

    one, same, other = codes(0), codes(0), codes(1)
    assert one.equal(same)
    assert not one.equal(other)
