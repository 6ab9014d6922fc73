import inspect
from typing import Annotated

import pytest
import torch
from pydantic import Field

from sottovoce.methods import METHODS, find
from sottovoce.methods.options import GRID_OPTIONS, SPREAD_OPTIONS, OptionTable, Sparsity, dtype_of
from sottovoce.nearest import unknown
from sottovoce.numbers.grid import Grid
from sottovoce.numbers.grid_options import grid_as_options, grid_of
from tests.methods.samples import layer_of, seen, some_inputs, some_weights


@pytest.mark.parametrize("name", METHODS)
def test_every_method_loads_under_its_name_and_says_what_it_does(name):
    method = find(name)
    assert method.name == name == method.function.__name__
    assert len(method.summary) > 20
    assert "\n" in method.text
    needs = method.needs(method.options.fill(name, {}))
    statistics = {
        "gram",
        "square",
        "absmax",
        "absolute",
        "attended",
        "total",
        "low",
        "high",
        "sample",
        "padding",
        "head",
    }
    assert needs - {"audio", "transcripts"} <= {*statistics, "data"}
    assert not {"audio", "transcripts"} <= needs


@pytest.mark.parametrize("name", METHODS)
def test_every_option_is_explained_and_has_a_type_and_a_default(name):
    table = find(name).options
    assert [row["option"] for row in table.rows()] == table.names()
    for row in table.rows():
        assert len(row["text"]) > 10, row
        assert row["type"] not in ("", "any"), row
        assert row["default"], row


@pytest.mark.parametrize("name", METHODS)
def test_grid_options_stand_only_where_the_function_takes_a_grid(name):
    method = find(name)
    parameters = inspect.signature(method.function).parameters
    takes = "grid" in parameters
    assert method.options.takes_grid == takes
    if method.owns in ("input", "output"):  # the grid of an activation, which a recipe's grid of weights is not
        assert not takes
        return
    own = {"bits"} & set(method.options.names()) if method.owns == "base" else set()  # of a base without a grid
    spread = set(SPREAD_OPTIONS) if "spread" in parameters else set()
    assert (set(GRID_OPTIONS) & set(method.options.names())) == (set(GRID_OPTIONS) if takes else own | spread)
    assert "grid" not in method.options.names()
    arguments = method.options.arguments(method.options.fill(name, {}))
    assert isinstance(arguments.get("grid"), Grid) == takes
    assert (set(GRID_OPTIONS) & set(arguments)) == (set() if takes else own)


@pytest.mark.parametrize("name", [name for name in METHODS if find(name).scope == "layer"])
def test_every_layer_method_runs_with_its_defaults(name):
    method = find(name)
    given = {"armor": {"block_size": 8}, "hqq": {"symmetric": False}, "spqr": {"group_size": 8}}.get(name, {})
    options = method.options.arguments(method.options.fill(name, given))
    layer = layer_of(some_weights(16, 24))
    made = method.function(layer, seen(some_inputs(60, 24)), **options)
    for place, value in zip(method.places, (made,) if len(method.places) == 1 else made, strict=True):
        if place == "input":
            assert value != layer.input
            assert torch.isfinite(value(some_inputs(7, 24))).all()
        elif place == "output":
            assert torch.isfinite(value(some_inputs(7, 24))).all()
        else:
            for owned in set(method.parts) - {"input", "output"}:
                part = "base" if owned == "values" else owned
                assert getattr(value, part) is not getattr(layer.weight, part)
            assert torch.isfinite(value.dense()).all()


def test_an_unknown_method_is_refused_with_the_nearest_names():
    with pytest.raises(
        ValueError,
        match=r"unknown method 'gtpq'; did you mean gptq( or \w+)?\? there are: activations, armor, autoround, awq, ",
    ):
        find("gtpq")


def test_a_name_near_to_nothing_gets_the_list_alone():
    assert str(unknown("step", "zzz", ["b", "a"])) == "unknown step 'zzz'; there are: a, b"


@pytest.mark.parametrize(
    ("method", "option", "near"),
    [("gptq", "group_sise", "group_size"), ("wanda", "sparcity", "sparsity"), ("rtn", "were", "where")],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(method, option, near):
    with pytest.raises(ValueError, match=f"unknown option of {method} '{option}'; did you mean {near}"):
        find(method).options.fill(method, {option: 1})


def test_an_option_of_a_grid_is_unknown_to_a_method_without_one():
    with pytest.raises(ValueError, match=r"unknown option of wanda 'bits'.* there are: over, sparsity, where"):
        find("wanda").options.fill("wanda", {"bits": 4})


@pytest.mark.parametrize(
    ("method", "option", "value", "message"),
    [
        ("gptq", "damp", 0, "should be greater than 0"),
        ("gptq", "damp", 101, "should be less than or equal to 100"),
        ("gptq", "bits", 1, "should be greater than or equal to 2"),
        ("gptq", "bits", 4.5, "should be a valid integer"),
        ("gptq", "group_size", 0, "should be greater than or equal to 1"),
        ("gptq", "scale_dtype", "float8", "should be 'float16', 'bfloat16' or 'float32'"),
        ("smoothquant", "alpha", 1.5, "should be less than or equal to 1"),
        ("smoothquant", "alpha", "much", "should be a valid number"),
        ("low_rank", "metric", "hessian", "should be 'gram', 'diagonal' or 'plain'"),
        ("global_magnitude", "sparsity", 1.0, "should be less than 1"),
        ("prune_width", "neurons", 1.5, "should be a valid integer, or less than 1"),
        ("gptq", "group_size", 0, "should be greater than or equal to 1, or 'channel' or 'tensor'"),
    ],
)
def test_a_value_out_of_range_is_refused_by_option_value_and_range(method, option, value, message):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole sentence is compared
        find(method).options.fill(method, {option: value})
    assert str(refused.value).startswith(f"{method}: {option}={value!r}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("value", "filled"), [(0.5, 0.5), ("0.5", 0.5), ("2:4", "2:4"), ("1:8", "1:8"), (1e-3, 1e-3), ("allocated",) * 2]
)
def test_sparsity_is_a_share_or_n_of_m(value, filled):
    assert find("wanda").options.fill("wanda", {"sparsity": value})["sparsity"] == filled


@pytest.mark.parametrize(
    "value", [0, 1, 1.5, -0.5, "4:2", "4:4", "0:4", "x", "", "2:", "a:b", True, None, [0.5], float("nan"), "1:2:3"]
)
@pytest.mark.parametrize("name", ["magnitude", "wanda", "ria", "sparsegpt", "sparsegpt_joint"])
def test_a_sparsity_that_is_neither_is_refused_with_both_forms_that_work(name, value):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole sentence is compared
        find(name).options.fill(name, {"sparsity": value})
    assert str(refused.value).startswith(f"{name}: sparsity={value!r}: ")
    assert "as 2:4" in str(refused.value)


def test_filling_gives_every_option_and_keeps_what_was_given():
    options = find("gptq").options
    filled = options.fill("gptq", {"bits": 3, "damp": 0.1, "group_size": 32})
    assert list(filled) == options.names()
    assert (filled["bits"], filled["damp"], filled["group_size"], filled["act_order"]) == (3, 0.1, 32, False)
    assert options.arguments(filled)["grid"] == Grid(3, 32)


@pytest.mark.parametrize("grid", [Grid(), Grid(3, 32, False, torch.bfloat16), Grid(8, "tensor", True, torch.float32)])
def test_a_grid_comes_back_from_its_options(grid):
    options = grid_as_options(grid)
    assert grid_of(options) == grid
    assert find("rtn").options.fill("rtn", options) == {**options, "clip": "none", "frontend_bits": 8}
    assert dtype_of(options["scale_dtype"]) == grid.scale_dtype


def test_the_table_of_options_is_read_from_the_signature():
    def made_up(
        layer,
        *,
        grid: Grid,
        share: Annotated[float, Field(gt=0, lt=1, description="a share")],
        sparsity: Sparsity = 0.5,
        count: Annotated[int, Field(ge=1, le=9, description="a count")] = 3,
    ): ...

    rows = {row["option"]: row for row in OptionTable.of(made_up).rows()}
    assert list(rows) == [*GRID_OPTIONS, "share", "sparsity", "count"]
    assert rows["share"] == {"option": "share", "type": "number > 0, < 1", "default": "required", "text": "a share"}
    assert rows["count"]["type"] == "integer >= 1, <= 9"
    assert rows["group_size"]["type"] == "integer >= 1 | channel | tensor"
    assert rows["sparsity"]["text"].startswith("the share of weights dropped, n:m")
    with pytest.raises(ValueError, match="made_up: share=None: Field required"):
        OptionTable.of(made_up).fill("made_up", {})
