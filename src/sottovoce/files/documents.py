"""YAML as a person means it: 2:4 is text, a key stands once, 1e-4 is a number. And JSON, however deep it is nested."""

import json
import re
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """SafeLoader without YAML 1.1's numbers to base 60 (2:4 would be 124) and 8, and without repeated keys."""


_NUMBER = re.compile(r"^[-+]?(0|[1-9][\d_]*)$")
_REAL = re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _NUMBER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _REAL, list("-+.0123456789"))


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise ValueError(f"a key in line {key_node.start_mark.line + 1} is a list or a mapping; a word would work")
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise ValueError(f"key {key!r} stands twice, again in line {key_node.start_mark.line + 1}")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(text: str, name: str) -> Any:
    """The value of a YAML text. Raises ValueError that names the text and the line."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"{name} is not YAML{where}: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError that says what is wrong and where."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise ValueError(f"not JSON ({error.msg} at {line}column {error.colno})") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deeply to be read") from None


def read_yaml(path: Path) -> Any:
    """The value of a YAML file."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text; a YAML file in UTF-8 would work") from None


def set_path(document: Any, path: str, value: Any) -> None:
    """Set `a.b.0.c` in nested mappings and lists; the last key of a mapping may be new."""
    *parents, last = path.split(".")
    place = document
    for part in parents:
        place = _step(place, part, path)
    if isinstance(place, list):
        _step(place, last, path)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ValueError(f"cannot set {path}: {parents[-1] if parents else path} holds no settings")


def _step(place: Any, part: str, path: str) -> Any:
    if isinstance(place, list):
        if not part.isdigit() or int(part) >= len(place):
            raise ValueError(f"cannot set {path}: {part!r} is not one of the {len(place)} entries, counted from 0")
        return place[int(part)]
    if isinstance(place, dict):
        if part not in place:
            raise ValueError(f"cannot set {path}: there is no {part!r}; there are {', '.join(map(str, place))}")
        return place[part]
    raise ValueError(f"cannot set {path}: nothing stands under {part!r}")
