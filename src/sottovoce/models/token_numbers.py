"""Where the files beside a model's weights name tokens by number, and the same files with other numbers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_ONE = "_token_id"  # how the names of keys end that name one token, or a list of them
_LISTS = ("suppress_tokens", "begin_suppress_tokens")
_PAIRS = "forced_decoder_ids"
_MAPS = ("lang_to_id", "task_to_id")
_UNKNOWN = ("bad_words_ids", "force_words_ids", "sequence_bias", "constraints")  # of generation; nobody's here
_EXTRA = ("additional_special_tokens", "extra_special_tokens")
SIZE = "vocab_size"


def named_tokens(document: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(key, token) of config.json or generation_config.json for every token that it cannot do without.

    That is all but lists of suppressed tokens, languages and tasks. Raises ValueError for a key that cannot be
    renumbered.
    """
    for key in _UNKNOWN:
        if document.get(key):
            raise ValueError(f"{key} names tokens in a way that is not understood here; remove it")
    for key, value in document.items():
        if key.endswith(_ONE):
            yield from ((key, token) for token in (value if isinstance(value, list) else [value]) if token is not None)
    yield from ((_PAIRS, token) for _, token in document.get(_PAIRS) or () if token is not None)


def names_tokens(key: str) -> bool:
    """Whether a key of config.json names tokens by number, or counts them."""
    return key == SIZE or _writer(key) is not None


def renumbered(document: Mapping[str, Any], now: Mapping[int, int]) -> dict[str, Any]:
    """config.json or generation_config.json with the tokens of `now` alone, by the numbers that they get there."""
    found = dict(document)
    for key, value in document.items():
        if (write := _writer(key)) and value is not None:
            found[key] = write(value, now)
    if SIZE in found:
        found[SIZE] = len(now)
    return found


def _writer(key: str) -> Callable[[Any, Mapping[int, int]], Any] | None:
    if key.endswith(_ONE):
        return lambda value, now: [now[token] for token in value] if isinstance(value, list) else now[value]
    if key in _LISTS:
        return lambda value, now: [now[token] for token in value if token in now]
    if key == _PAIRS:
        return lambda value, now: [[place, token if token is None else now[token]] for place, token in value]
    if key in _MAPS:
        return lambda value, now: {name: now[token] for name, token in value.items() if token in now}
    return None


# --- files of a tokenizer -------------------------------------------------------------------------


def named_contents(settings: Mapping[str, Any]) -> Iterator[str]:
    """The tokens that tokenizer_config.json or special_tokens_map.json names, each for a purpose."""
    for key, value in settings.items():
        if key.endswith("_token") and (content := _content(value)):
            yield content


def settings_of(settings: Mapping[str, Any], now: Mapping[int, int], gone: frozenset[str]) -> dict[str, Any]:
    """tokenizer_config.json or special_tokens_map.json without the tokens `gone`, the others by their numbers now."""
    found = dict(settings)
    if "added_tokens_decoder" in found:
        listed = found["added_tokens_decoder"].items()
        found["added_tokens_decoder"] = {str(now[int(i)]): token for i, token in listed if int(i) in now}
    for key in _EXTRA:
        extra = found.get(key)
        if isinstance(extra, list):
            found[key] = [token for token in extra if _content(token) not in gone]
        elif isinstance(extra, dict):
            found[key] = {name: token for name, token in extra.items() if _content(token) not in gone}
    return found


def _content(token: Any) -> str | None:
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None
