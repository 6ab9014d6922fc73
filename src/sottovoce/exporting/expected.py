"""The files of a self-test beside its audio: what the artifact chose, as JSON, and a sample of what it computed.

Values are kept as float16, unless they are beyond its range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.files.atomic import json_text, write_text
from sottovoce.files.documents import parse_json

LIST, VALUES = "expected.json", "expected.safetensors"


@dataclass(frozen=True)
class Clip:
    """One clip of a self-test.

    audio    the file's name
    frames   of the encoder's, that are speech
    prompt   that it was decoded with
    tokens   that the artifact wrote after it, without the end; none of a CTC model's
    chosen   what it preferred after the prompt, and after each token, or at each frame
    margins  by how much the logit of each was above that of the next best
    text     of what it preferred, without the end
    """

    audio: str
    frames: int
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    chosen: tuple[int, ...]
    margins: tuple[float, ...]
    text: str


@dataclass(frozen=True)
class Expected:
    """What an artifact makes of some clips.

    values     by name, (rows of all clips, channels) float32, in the order in which they are computed
    explained  the error of each where inputs are rounded as the runtime rounds them
    """

    clips: tuple[Clip, ...]
    values: Mapping[str, np.ndarray]
    explained: Mapping[str, float]


def write_expected(
    folder: Path, clips: Sequence[Clip], values: Mapping[str, np.ndarray], explained: Mapping[str, float]
) -> None:
    """Write both files; see Expected."""
    from safetensors.numpy import save_file

    save_file({name: _narrow(value) for name, value in values.items()}, folder / VALUES)
    write_text(folder / LIST, json_text({"clips": [asdict(clip) for clip in clips], "explained": explained}))


def read_expected(folder: Path) -> Expected:
    """Read them again. Raises ValueError if they are not there, or of an older sottovoce."""
    from safetensors.numpy import load_file

    try:
        document = parse_json((folder / LIST).read_text(encoding="utf-8"))
        explained = document["explained"]
        values = load_file(folder / VALUES)
        clips = tuple(_clip(clip) for clip in document["clips"])
        return Expected(clips, {name: values[name].astype(np.float32) for name in explained}, explained)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder} is not a self-test that this version of sottovoce can run ({error}); export the model again"
        ) from None


def _clip(document: Mapping[str, Any]) -> Clip:
    made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
    return Clip(**made)


def together(answers: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The rows of all clips, output by output."""
    return {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}


def _narrow(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return np.ascontiguousarray(half if np.isfinite(half).all() else value)
