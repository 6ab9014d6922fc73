"""What one request asks for: OpenAI's parameters, each of which has an effect here or is refused.

https://platform.openai.com/docs/api-reference/audio. `model` alone may be anything, since the server has one model.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sottovoce.serving.refused import Refused

Task = Literal["transcribe", "translate"]
FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = ("segment", "word")
_PARAMETERS: dict[Task, tuple[str, ...]] = {
    "translate": ("model", "prompt", "response_format", "temperature"),
    "transcribe": (
        *("model", "prompt", "response_format", "temperature"),
        *("language", "stream", "timestamp_granularities", "chunking_strategy"),
    ),
}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Asked:
    """language and prompt are None where the request names none: the server's own hold then."""

    task: Task = "transcribe"
    language: str | None = None
    prompt: str | None = None
    format: str = "json"
    granularities: frozenset[str] = frozenset()
    stream: bool = False

    @property
    def words(self) -> bool:
        """Whether words need times."""
        return "word" in self.granularities


def asked(task: Task, fields: Mapping[str, Sequence[str]]) -> Asked:
    """What the fields of a form ask for, by name with all values of that name.

    Raises Refused for a parameter that is not known, not possible or not understood.
    """
    known = _PARAMETERS[task]
    for name, values in fields.items():
        if name.removesuffix("[]") not in known:
            raise Refused(
                f"{name}: this server has no such parameter; it has {', '.join(known)}", code="unknown_parameter"
            )
        if len(values) > 1 and not name.endswith("[]"):
            raise Refused(f"{name} is given {len(values)} times; once would work")
    one = {name: values[0] for name, values in fields.items() if not name.endswith("[]")}
    _check_temperature(one.get("temperature", "0"))
    _check_chunking(one.get("chunking_strategy", "auto"))
    found = Asked(
        task,
        language_asked(one.get("language")),
        one.get("prompt"),
        _one_of("response_format", one.get("response_format", "json"), FORMATS),
        _granularities(fields),
        _stream(one.get("stream", "false")),
    )
    if found.granularities and found.format != "verbose_json":
        raise Refused(f"timestamp_granularities needs response_format verbose_json; found {found.format}")
    if found.stream and found.format not in ("json", "text"):
        raise Refused(f"stream sends text as it comes: response_format json or text would work; found {found.format}")
    return found


def language_asked(language: str | None) -> str | None:
    """The code of a language; None if none was named. Raises Refused for what is no code, as "german"."""
    if not language:
        return None
    if not re.fullmatch(r"[A-Za-z]{2,3}([-_]\w+)*", language):
        raise Refused(f"language {language[:40]!r} is no code; one of ISO 639-1, as en or de, would work")
    return language


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise Refused(f"{name} {value[:40]!r} is not known; {', '.join(choices)} would work")
    return value


def _granularities(fields: Mapping[str, Sequence[str]]) -> frozenset[str]:
    name = "timestamp_granularities"
    values = (*fields.get(name, ()), *fields.get(f"{name}[]", ()))
    return frozenset(_one_of(f"{name}[]", value, GRANULARITIES) for value in values)


def _stream(value: str) -> bool:
    return _TRUTH[_one_of("stream", value.lower(), tuple(_TRUTH))]


def _check_temperature(value: str) -> None:
    """OpenAI's 0: the likeliest token, and a higher temperature only where the result looks wrong."""
    try:
        likeliest = float(value) == 0
    except ValueError:
        likeliest = False
    if not likeliest:
        raise Refused(
            f"temperature {value[:40]!r}: this server takes the likeliest token; 0, or leaving it out, would work"
        )


def _check_chunking(value: str) -> None:
    if value != "auto":
        raise Refused(
            'chunking_strategy: this server cuts where its own options say; "auto", or leaving it out, would work'
        )
