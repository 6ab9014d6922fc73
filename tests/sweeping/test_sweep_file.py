import copy
from pathlib import Path

import pytest

from sottovoce.sweeping.sweep_file import CalibrationPlan, read_sweep

HEAD = {"models": ["a"], "data": ["t.jsonl"]}
CALIBRATED = {**HEAD, "calibration": {"data": "c.jsonl"}}


def steps_of(plan):
    return [[(step.method.name, dict(step.options)) for step in recipe.steps] for recipe in plan.recipes]


def test_lists_of_values_are_every_combination():
    recipe = {"grid": {"bits": [8, 3], "group_size": ["channel", 16]}, "steps": ["rtn"]}
    found = [step["bits"] for [(_, step)] in steps_of(read_sweep({**HEAD, "recipes": [recipe]}))]
    sizes = [step["group_size"] for [(_, step)] in steps_of(read_sweep({**HEAD, "recipes": [recipe]}))]
    assert list(zip(found, sizes, strict=True)) == [(8, "channel"), (8, 16), (3, "channel"), (3, 16)]


def test_lists_in_two_steps_are_every_combination_of_both():
    steps = [{"magnitude": {"sparsity": [0.25, "2:4"]}}, {"rtn": {"bits": [8, 4]}}]
    found = steps_of(read_sweep({**HEAD, "recipes": [{"steps": steps}]}))
    assert [(first["sparsity"], second["bits"]) for (_, first), (_, second) in found] == [
        (0.25, 8),
        (0.25, 4),
        ("2:4", 8),
        ("2:4", 4),
    ]


def test_a_list_of_patterns_is_one_value():
    where = ["encoder.*", "!*conv*"]
    plan = read_sweep({**HEAD, "recipes": [{"steps": [{"rtn": {"where": where, "bits": [8, 4]}}]}]})
    assert [recipe.steps[0].where for recipe in plan.recipes] == [tuple(where)] * 2


def test_a_step_that_is_a_list_is_each_of_its_alternatives_in_turn():
    steps = [["rtn", {"hqq": {"bits": [4, 2], "symmetric": False}}, {"magnitude": {"where": "*fc1"}}]]
    plan = read_sweep({**HEAD, "recipes": [{"grid": {"bits": 8}, "steps": steps}]})
    found = [(name, options.get("bits")) for [(name, options)] in steps_of(plan)]
    assert found == [("rtn", 8), ("hqq", 4), ("hqq", 2), ("magnitude", None)]


def test_a_list_within_alternatives_stays_together_and_an_empty_one_is_no_step():
    steps = [["rtn", ["awq", {"rtn": {"bits": [8, 4]}}]], [[], {"magnitude": {"where": "*fc1"}}]]
    plan = read_sweep({**CALIBRATED, "recipes": [{"steps": steps}]})
    found = [[name if name != "rtn" else (name, options["bits"]) for name, options in row] for row in steps_of(plan)]
    assert found == [
        [("rtn", 4)],
        [("rtn", 4), "magnitude"],
        ["awq", ("rtn", 8)],
        ["awq", ("rtn", 8), "magnitude"],
        ["awq", ("rtn", 4)],
        ["awq", ("rtn", 4), "magnitude"],
    ]


def test_built_in_recipes_and_files_are_taken_by_name(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("steps: [rtn]")
    plan = read_sweep({**CALIBRATED, "recipes": ["gptq-w4", str(file)]})
    assert [recipe.name for recipe in plan.recipes] == ["gptq-w4", "mine"]


def test_lists_in_the_calibration_are_every_combination():
    document = {**HEAD, "calibration": {"data": "c.jsonl", "limit": [4, 8], "seed": [0, 1]}, "recipes": ["gptq-w4"]}
    assert read_sweep(document).calibrations == tuple(
        CalibrationPlan("c.jsonl", limit, seed) for limit in (4, 8) for seed in (0, 1)
    )


def test_overrides_reach_any_part_and_may_add_one():
    document = {**CALIBRATED, "recipes": [{"steps": [{"rtn": {"bits": 8}}]}]}
    plan = read_sweep(
        document,
        ["recipes.0.steps.0.rtn.bits=[4,3]", "calibration.limit=16", "models=[b, c]", "workload={seconds: 3}"],
    )
    assert [step["bits"] for [(_, step)] in steps_of(plan)] == [4, 3]
    assert plan.models == ("b", "c")
    assert plan.calibrations == (CalibrationPlan("c.jsonl", 16),)
    assert plan.workload.seconds == 3


def test_overrides_leave_the_mapping_as_it_was():
    document = {**CALIBRATED, "recipes": [{"steps": [{"rtn": {"bits": 8}}]}]}
    before = copy.deepcopy(document)
    read_sweep(document, ["recipes.0.steps.0.rtn.bits=4", "calibration.limit=16"])
    assert document == before


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({**HEAD, "recipes": [{"steps": ["gptqq"]}]}, "unknown method 'gptqq'; did you mean gptq"),
        ({**HEAD, "recipes": ["gptq-w5"]}, "unknown recipe 'gptq-w5'; did you mean gptq-w"),
        ({**HEAD, "recipes": [{"steps": [{"rtn": {"bits": [8, 9]}}]}]}, "rtn: bits=9: should be less than or equal"),
        ({**HEAD, "recipes": [{"steps": [{"rtn": {"bit": 8}}]}]}, "unknown option of rtn 'bit'; did you mean bits"),
        ({**HEAD, "recipes": [{"steps": "rtn"}]}, "has no steps; write a list"),
        ({**HEAD, "recipes": [{"steps": [{"rtn": 4}]}]}, "is not a step; write a method's name"),
        ({**HEAD, "recipes": [{"grid": 4, "steps": ["rtn"]}]}, "grid of recipe inline holds 4; a mapping"),
        ({**HEAD, "recipes": [{"grid": {"bits": []}, "steps": ["rtn"]}]}, "bits.* empty list"),
        ({**HEAD, "recipes": []}, "names no recipes"),
        ({**HEAD}, "names no recipes"),
        ({"data": ["t"], "recipes": ["rtn-w8"]}, "names no models"),
        ({"models": ["a"], "recipes": ["rtn-w8"]}, "names no data"),
        ({**HEAD, "recipes": ["gptq-w4"]}, "recipe gptq-w4 needs calibration audio; add calibration"),
        ({**HEAD, "recipe": ["gptq-w4"]}, "unknown part of sweep 'recipe'; did you mean recipes"),
        ({**CALIBRATED, "recipes": ["rtn-w8"], "calibration": {"limit": 4}}, "names no data; write calibration"),
        ({**HEAD, "recipes": ["rtn-w8"], "calibration": {"data": "c", "n": 4}}, "unknown option of calibration in"),
        ({**HEAD, "recipes": ["rtn-w8"], "calibration": {"data": "c", "tokens": "mine"}}, "calibration tokens in"),
        ({**HEAD, "recipes": ["rtn-w8"], "workload": {"second": 4}}, "does not fit; seconds, tokens, beam and"),
        ({**HEAD, "recipes": ["rtn-w8"], "normalizer": "whisper"}, "unknown normalizer 'whisper'"),
        ({**HEAD, "recipes": ["rtn-w8"], "keep_artifacts": "never"}, "keep_artifacts.*'never'.*true or false"),
    ],
)
def test_a_sweep_that_no_row_could_work_with_is_refused_in_one_sentence(document, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_sweep(document)
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist_or_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"sweep .*none\.yaml does not exist; give a YAML file"):
        read_sweep(tmp_path / "none.yaml")
    file = tmp_path / "list.yaml"
    file.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"list\.yaml holds a list; a mapping with models, data and recipes"):
        read_sweep(file)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_sweep_files_of_the_house_can_be_read(file):
    assert read_sweep(file).recipes
