import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
CURRENT = [document for document in DOCUMENTS if document.name not in ("log.md", "CHANGELOG.md")]


def test_it_is_short():
    assert len(README.encode()) <= 9_000


def test_every_command_of_the_readme_exists():
    from sottovoce.cli.app import app

    commands = {command.name for command in (*app.registered_commands, *app.registered_groups)}
    assert set(re.findall(r"^sottovoce ([\w-]+)", README, re.MULTILINE)) == commands


def test_every_public_name_of_the_package_can_be_imported():
    import sottovoce

    assert all(getattr(sottovoce, name) for name in sottovoce.__all__)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert "://" in target or (document.parent / target).exists(), target


@pytest.mark.parametrize("document", CURRENT, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document):
    places = (ROOT, ROOT / "src" / "sottovoce", ROOT / "tests", ROOT / "src")
    for named in re.findall(r"`([\w./]+/\w+\.(?:py|yaml|sh))`", document.read_text(encoding="utf-8")):
        assert any((place / named).exists() for place in places), named
