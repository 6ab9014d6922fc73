import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = sorted((ROOT / "src" / "sottovoce").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_tree_has_a_line_for_each_file_and_it_is_the_file_s_own_first_line(file):
    first_line = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))).splitlines()[0]
    assert re.search(rf"^ +{re.escape(file.name)} +{re.escape(first_line)}$", README, re.MULTILINE), first_line


def test_the_tree_names_no_file_that_is_gone():
    named = set(re.findall(r"^ +(\w+\.py)  ", README, re.MULTILINE))
    assert named == {file.name for file in FILES}


def test_every_command_of_the_readme_exists():
    from sottovoce.cli.app import app

    commands = {command.name for command in app.registered_commands}
    assert set(re.findall(r"^sottovoce (\w+)", README, re.MULTILINE)) <= commands
    assert commands <= set(re.findall(r"sottovoce (\w+)", README))


def test_every_public_name_of_the_package_can_be_imported():
    import sottovoce

    assert all(getattr(sottovoce, name) for name in sottovoce.__all__)


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
