"""docs/methods.md is what the methods say of themselves now."""

import re
from pathlib import Path

import pytest

from sottovoce.methods import METHODS, find
from sottovoce.recipes.catalogue import catalogue, describe, family_of
from sottovoce.recipes.manual import NEEDS, PARTS, SCOPES, methods_page

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_fresh():
    assert PAGE.read_text("utf-8") == methods_page(), "run `make docs`"


def test_every_method_has_a_line_a_section_and_all_of_its_options():
    page = methods_page()
    assert re.findall(r"^\| \[(\w+)\]\(#\1\) \|", page, re.MULTILINE) == list(METHODS)
    sections = dict(zip(*[iter(re.split(r"^## (\w+)$", page, flags=re.MULTILINE)[1:])] * 2, strict=True))
    assert list(sections) == list(METHODS)
    for name, text in sections.items():
        found = re.findall(r"^\| `(\w+)` \| .+ \| `.+` \| .+ \|$", text, re.MULTILINE)
        assert found == find(name).options.names()
        assert find(name).summary in text
        cells = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
        assert cells <= {5}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_its_paper(name):
    method = find(name)
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|github\.com/[\w-]+/[\w-]+", method.paper)
    assert method.paper in method.text


def test_every_scope_part_and_need_is_explained():
    for name in METHODS:
        method = find(name)
        assert method.scope in SCOPES
        assert method.owns in PARTS
        assert family_of(method.owns)
        assert set(describe(name)["needs"]) <= set(NEEDS)


def test_a_list_of_options_has_one_word_for_a_group():
    [gptq] = [method for method in catalogue()["methods"] if method["name"] == "gptq"]
    assert gptq["options"][:2] == ["grid", "damp"]
    for method in catalogue()["methods"]:
        assert len(set(method["options"])) == len(method["options"])
