"""Two small models and four sets of speech, named "builtin:...", for trying and testing: sottovoce-builtin's."""

from importlib import resources
from pathlib import Path

from sottovoce.nearest import unknown

PREFIX = "builtin:"
MODELS = ("whisper", "moonshine")
SETS = ("test", "calibration", "train", "unlabelled")


def built_in_model(name: str | Path) -> Path | None:
    """The folder of a built-in model; None for a name of another kind. Raises ValueError if there is no such model."""
    return _find(name, "model", MODELS, "")


def built_in_set(name: str | Path) -> Path | None:
    """The folder of a built-in set; None for a name of another kind. Raises ValueError if there is no such set."""
    return _find(name, "data set", SETS, "speech")


def _find(name: str | Path, what: str, known: tuple[str, ...], within: str) -> Path | None:
    if not str(name).startswith(PREFIX):
        return None
    wanted = str(name).removeprefix(PREFIX)
    if wanted not in known:
        raise unknown(f"built-in {what}", str(name), [f"{PREFIX}{item}" for item in known])
    try:
        package = resources.files("sottovoce_builtin")
    except ModuleNotFoundError:
        raise ValueError(
            f"{name} needs the package sottovoce-builtin, which is not installed; "
            "pip install ./packages/sottovoce-builtin"
        ) from None
    with resources.as_file(package.joinpath(within, wanted)) as folder:
        return folder
