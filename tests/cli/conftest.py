import sys
from dataclasses import dataclass

import pytest

import sottovoce
from sottovoce.cli import main
from tests import toys


@dataclass
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, capsys):
    """Run `sottovoce WORDS...` in this process."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sottovoce", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Outcome(end.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def heard(tmp_path_factory):
    """A test set of four clips."""
    return toys.write_speech(tmp_path_factory.mktemp("heard"), 4, seed=0, prefix="test")


@pytest.fixture(scope="session")
def made(toy, tmp_path_factory):
    """An artifact that must not be changed."""
    folder = tmp_path_factory.mktemp("made") / "made"
    sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=folder)
    return folder
