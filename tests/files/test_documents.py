import re

import pytest

from sottovoce.artifact.folder import read_artifact
from sottovoce.files.documents import parse_json, parse_yaml, read_yaml, set_path
from sottovoce.measure.run import read_run
from sottovoce.measure.transcripts import read_transcripts
from sottovoce.models.checkpoint import read_json
from sottovoce.sweeping.row import read_row


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2:4", "2:4"),
        ("12:30:45", "12:30:45"),
        ("2026-11-20", "2026-11-20"),
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-0.25", -0.25),
        ("3", 3),
        ("-12", -12),
        ("0", 0),
        ("1_000", 1000),
        ("010", "010"),
        ("08", "08"),
        ("0x10", "0x10"),
        ("true", True),
        ("no", False),
        ("null", None),
        ("'3'", "3"),
        ("[2:4, 0.5]", ["2:4", 0.5]),
        ("{a: {b: 2:4}}", {"a": {"b": "2:4"}}),
        ("", None),
    ],
)
def test_yaml_is_what_a_person_means(text, value):
    found = parse_yaml(text, "it")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "it: key 'a' stands twice, again in line 3"),
        ("steps:\n- gptq:\n    bits: 3\n    bits: 4", "it: key 'bits' stands twice, again in line 4"),
        ("a: [1", "it is not YAML in line 1: "),
        ("a: 1\n b: 2", "it is not YAML in line 2: "),
        ("where: *", "it is not YAML in line 1: "),
        ("a: !python/object:os.system x", "it is not YAML in line 1: could not determine a constructor"),
        ("{[1, 2]: 3}", "it: a key in line 1 is a list or a mapping; a word would work"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        parse_yaml(text, "it")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused_with_its_name(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match=r"recipe\.yaml is not text"):
        read_yaml(path)
    path.write_text("a: ü", encoding="utf-8")
    assert read_yaml(path) == {"a": "ü"}


def test_a_path_sets_one_value_and_leaves_the_rest():
    document = {"grid": {"bits": 4}, "steps": [{"gptq": {"damp": 0.1}}, "rtn"]}
    set_path(document, "grid.bits", 3)
    set_path(document, "grid.group_size", 32)
    set_path(document, "steps.0.gptq.damp", 0.2)
    set_path(document, "steps.1", "hqq")
    assert document == {"grid": {"bits": 3, "group_size": 32}, "steps": [{"gptq": {"damp": 0.2}}, "hqq"]}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gird.bits", "there is no 'gird'; there are grid, steps"),
        ("steps.2", "'2' is not one of the 2 entries, counted from 0"),
        ("steps.one.damp", "'one' is not one of the 2 entries"),
        ("steps.1.gptq.damp", "nothing stands under 'gptq'"),
        ("grid.bits.x", "bits holds no settings"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_breaks(path, message):
    document = {"grid": {"bits": 4}, "steps": [{"gptq": {"damp": 0.1}}, "rtn"]}
    with pytest.raises(ValueError, match=message):
        set_path(document, path, 3)


DEEP = ["[" * 100_000, '{"a": ' * 100_000]


@pytest.mark.parametrize("text", DEEP)
def test_what_is_nested_too_deeply_is_refused_in_a_sentence(text):
    with pytest.raises(ValueError, match=r"^it is nested too deeply"):
        parse_yaml(text, "it")
    with pytest.raises(ValueError, match=r"^JSON that is nested too deeply to be read$"):
        parse_json(text)


@pytest.mark.parametrize(("text", "where"), [('{"a": }', "at column 7"), ('{\n "a": }', "at line 2, column 7")])
def test_what_is_not_json_is_refused_with_its_place(text, where):
    with pytest.raises(ValueError, match=rf"^not JSON \(Expecting value {where}\)$"):
        parse_json(text)


@pytest.mark.parametrize("text", DEEP)
@pytest.mark.parametrize("name", ["run.json", "row.json", "lines.jsonl", "sottovoce.json", "config.json"])
def test_every_file_that_is_nested_too_deeply_is_named(tmp_path, text, name):
    read = {
        "run.json": lambda path: read_run(path.parent),
        "row.json": read_row,
        "lines.jsonl": read_transcripts,
        "sottovoce.json": lambda path: read_artifact(path.parent),
        "config.json": read_json,
    }[name]
    (tmp_path / name).write_text(text + "\n")
    with pytest.raises(ValueError, match=rf"{re.escape(name)}.*nested too deeply"):
        read(tmp_path / name)
