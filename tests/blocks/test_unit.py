"""What a learning unit is shown, on toys of both families."""

from dataclasses import replace

import pytest
import torch

from sottovoce.blocks.objective import UnitObjective, judged_by_unit
from sottovoce.blocks.settings import Learning
from sottovoce.blocks.unit import LiveUnit, Passage, unrounded
from sottovoce.calibration.collect import State, run
from sottovoce.compressing.loop import compress_layers
from sottovoce.numbers.rounding import Rounding
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.recipe import Recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Weight

families = pytest.mark.parametrize("name", ["whisper", "moonshine", "whisper untied"])
BOTH = pytest.mark.parametrize("name", ["whisper", "moonshine"])


def shown(toy, name, clips, steps, watch):
    """Run a recipe whose first autoround is replaced by `watch(block, model)`."""
    recipe = read_recipe({"steps": steps})
    model, layers = find_target(toy(name)).open()

    def spied(step):
        if step.method.name != "autoround":
            return step
        return replace(step, method=replace(step.method, function=lambda block, **options: watch(block, model)))

    recipe = Recipe("spied", tuple(spied(step) for step in recipe.steps))
    compress_layers(model, layers, select(recipe, find_target(toy(name)).layout()), Material(clips))
    return model


@torch.no_grad()
def through(model, clip, change=lambda unit: None):
    """{unit: (input, output)} of one clip; `change` is called as each unit has been passed."""
    found, memory, before = {}, None, None
    for stack in model.stacks:
        state = State(*stack.enter(clip, memory, before))
        for unit in stack.units:
            given = state.hidden
            state.hidden = run(model, unit, state)
            found[unit.name] = given, state.hidden
        memory, before = state.hidden, state.context
    return found


@families
def test_a_unit_is_given_what_the_compressed_model_makes_and_wants_what_the_float_model_makes(name, toy, clips):
    three = clips(name)
    reference, _ = find_target(toy(name)).open()
    expected = [through(reference, clip) for clip in three]
    given = {}

    def watch(block, model):
        unit = block.live.unit.name
        given[unit] = [passage.given.hidden.clone() for passage in block.live.passages]
        for passage, clip, wanted in zip(block.live.passages, three, expected, strict=True):
            assert torch.equal(passage.wanted, wanted[unit][1])
            samples = clip.samples if "whisper" in name else None
            frames = passage.wanted.shape[1] if samples is None else -(-samples // 320)
            assert passage.counted == (frames if unit.startswith("encoder") else clip.tokens.shape[1])

    steps = [
        {"rtn": {"where": ["encoder.layers.0.*", "encoder.conv*"], "bits": 2}},
        {"autoround": {"where": "*.layers.1.*"}},
    ]
    model = shown(toy, name, three, steps, watch)
    made = [through(model, clip) for clip in three]
    assert set(given) == {"encoder.layers.1", "decoder.layers.1"}
    for unit, inputs in given.items():
        for x, clip, wanted in zip(inputs, made, expected, strict=True):
            assert torch.equal(x, clip[unit][0])
            assert not torch.allclose(x, wanted[unit][0], atol=1e-3)


@families
def test_only_tables_and_heads_are_judged_apart_from_their_unit(name, toy, clips):
    apart, together = {}, set()

    def watch(block, model):
        apart.update(block.apart)
        together.update(set(block.names) - set(block.apart))

    model = shown(toy, name, clips(name), ["autoround"], watch)
    tables = {layer for layer, shape in model.shapes.items() if shape.kind == "embedding" or layer == "proj_out"}
    assert set(apart) == tables
    assert together == set(model.shapes) - tables
    for stats in apart.values():
        assert stats.gram is not None


@BOTH
def test_a_float_model_is_carried_along_only_where_a_step_learns(name, toy, clips, monkeypatch):
    passed = []

    def counted(model, unit, state):
        passed.append(unit.name)
        return run(model, unit, state)

    monkeypatch.setattr("sottovoce.compressing.loop.run", counted)
    shown(toy, name, clips(name), [{"autoround": {"where": "encoder.layers.0.*"}}], lambda block, model: None)
    # once for the float model, and once to feed what is to learn
    assert passed == ["encoder.stem"] * 6 + ["encoder.layers.0"] * 3


def live(toy, name, clips, unit="decoder.layers.1"):
    """A unit of a toy whose wanted output is its own plus noise."""
    model, _ = find_target(toy(name)).open()
    passages = []
    for clip in clips:
        memory = before = None
        for stack in model.stacks:
            state = State(*stack.enter(clip, memory, before))
            for each in stack.units:
                if each.name == unit:
                    with torch.no_grad():
                        out = run(model, each, state)
                    noise = torch.randn(out.shape, generator=torch.Generator().manual_seed(len(passages)))
                    counted = state.context.valid["frames" if stack.name == "encoder" else "tokens"]
                    passages.append(Passage(State(state.hidden, state.context), out + noise, counted))
                    found = each
                with torch.no_grad():
                    state.hidden = run(model, each, state)
            memory, before = state.hidden, state.context
    return LiveUnit(model, found, passages)


@pytest.mark.parametrize("unit", ["encoder.layers.0", "decoder.layers.1", "encoder.stem"])
@BOTH
def test_gradients_are_those_of_the_error_where_positions_count(name, unit, toy, clips):
    found = live(toy, name, clips(name), unit)
    layer = {"encoder.layers.0": "encoder.layers.0.self_attn.v_proj", "encoder.stem": "encoder.conv2"}.get(
        unit, "decoder.layers.1.encoder_attn.k_proj"
    )
    weight = f"{layer}.weight"
    values = {weight: found.parameter(weight).detach().flatten(1).clone()}
    settings = Learning(batch=3, held_out=0, precision="fp32")
    with judged_by_unit(found, [weight], settings) as objective:
        gradient = objective.gradients(values)[weight]
        direction, step = gradient / gradient.norm(), 1e-2
        ahead, behind = (objective.error({weight: values[weight] + s * direction}) for s in (step, -step))
        slope = float((gradient * direction).sum())
        assert slope == pytest.approx((ahead - behind) / (2 * step), rel=2e-2)
        before = objective.error(values)
        for passage in found.passages:
            passage.wanted[:, passage.counted :] = 1e6  # padding has no say
        assert objective.error(values) == before
    assert before == pytest.approx(1.0, rel=0.2)  # the noise


@BOTH
def test_clips_of_one_shape_run_together_and_add_up(name, toy, clips):
    found = live(toy, name, clips(name))
    passages = [passage for passage in found.passages for _ in range(2)]
    groups = list(found.groups(passages))
    assert sum(len(group) for group in groups) == len(passages)
    assert all(len(group) >= 2 for group in groups)
    assert all(len({passage.shape for passage in group}) == 1 for group in groups)
    with torch.no_grad():
        alone = sum(float(found.error([passage])) for passage in passages)
        assert sum(float(found.error(group)) for group in groups) == pytest.approx(alone, rel=1e-5)


@BOTH
def test_afterwards_the_model_is_as_it_was(name, toy, clips):
    found = live(toy, name, clips(name))
    module = found.model.module
    before = {key: (p.detach().clone(), p.requires_grad) for key, p in module.named_parameters()}
    attention = module.config._attn_implementation
    weight = "decoder.layers.1.self_attn.q_proj.weight"

    def leave():
        with judged_by_unit(found, [weight], Learning()) as objective:
            objective.gradients({weight: torch.ones(32, 32)})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert module.config._attn_implementation == attention
    for key, p in module.named_parameters():
        assert torch.equal(p, before[key][0])
        assert p.requires_grad == before[key][1]
        assert p.grad is None


def test_the_float_model_rounds_no_input(toy, clips):
    model, layers = find_target(toy("whisper")).open()
    state = State(*model.stacks[0].enter(clips("whisper")[0], None, None))
    stem, block = model.stacks[0].units[:2]
    state.hidden = run(model, stem, state)
    plain = run(model, block, state)
    layer = layers["encoder.layers.0.fc1"]
    layer.input = InputPath(divisor=torch.full((32,), 2.0), rounding=Rounding(bits=2))
    model.assign(layer)
    rounded = run(model, block, state)
    with unrounded(model):
        divided = run(model, block, state)
    assert not torch.allclose(rounded, divided, atol=1e-2)
    assert not torch.allclose(plain, divided, atol=1e-2)
    assert torch.equal(run(model, block, state), rounded)


def test_held_out_clips_are_not_learned_from_and_the_seed_draws_both(toy, clips):
    found = live(toy, "whisper", clips("whisper") * 4)
    one, same, other = (UnitObjective(found, Learning(seed=seed, held_out=0.25)) for seed in (0, 0, 1))
    assert len(one.held) == 3
    assert len(one.learned) == 9
    assert [id(p) for p in one.held] == [id(p) for p in same.held]
    assert [id(p) for p in one.held] != [id(p) for p in other.held]
    assert not {id(p) for p in one.held} & {id(p) for p in one.learned}
    drawn = [one._next() for _ in range(5)]
    assert [[id(p) for p in batch] for batch in drawn] == [[id(p) for p in same._next()] for _ in range(5)]
    # every clip before any comes again
    assert len({id(p) for batch in drawn[:2] for p in batch}) == 8


def test_where_no_clip_can_be_held_out_all_are_checked(toy, clips):
    found = live(toy, "whisper", clips("whisper")[:1])
    objective = UnitObjective(found, Learning())
    assert objective.held == objective.learned == list(found.passages)
    assert len(objective._next()) == 1


@pytest.mark.parametrize("method", ["autoround", "omniquant", "tesseraq"])
@BOTH
def test_a_clip_of_one_frame_and_one_token_gives_finite_weights(name, method, toy, clips):
    target = find_target(toy(name))
    [clip, *_] = clips(name)
    short = replace(clip, samples=1, tokens=clip.tokens[:, :1])
    if name == "moonshine":
        short = replace(short, samples=895, features=clip.features[:, :895])
    model, layers = target.open()
    options = {"where": "*.layers.*", "bits": 2, "symmetric": False, "iterations": 10, "batch": 1}
    recipe = read_recipe({"steps": [{method: options}]})
    compress_layers(model, layers, select(recipe, target.layout()), Material([short]))
    for layer in layers.values():
        assert torch.isfinite(layer.weight.dense()).all()


@pytest.mark.parametrize("method", ["autoround", "omniquant", "tesseraq"])
def test_a_unit_of_zeros_stays_one(method, toy, clips):
    target = find_target(toy("whisper"))
    model, layers = target.open()
    for name, layer in layers.items():
        if ".layers.0." in name:
            layer.weight = Weight(torch.zeros_like(layer.target))
            layer.settle()
            model.assign(layer)
    recipe = read_recipe({"steps": [{method: {"where": "*.layers.0.*", "iterations": 5}}]})
    compress_layers(model, layers, select(recipe, target.layout()), Material(clips("whisper")))
    assert all((layer.weight.dense() == 0).all() for name, layer in layers.items() if ".layers.0." in name)
