import tomllib
from pathlib import Path

import pytest

from sottovoce.tested import TESTED, tested

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
ASKED = [line for extra in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()) for line in extra]


@pytest.mark.parametrize("package", TESTED)
def test_pyproject_asks_for_the_release_that_was_tested(package):
    lines = {line for line in ASKED if line.startswith((f"{package}=", f"{package}>"))}
    assert lines == {f"{package}=={TESTED[package]}.*"}


def test_a_package_that_was_never_tested_is_not_in_the_matrix():
    with pytest.raises(KeyError):
        tested("onnxruntime", "left-pad")
