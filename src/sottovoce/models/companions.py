"""The files beside a checkpoint's weights: which there are, and whether a model can work with them.

A missing or foreign one rarely stops transformers: it makes an empty tokenizer, or a feature extractor of other
sizes, and the transcripts are wrong without a word. So all is checked before a weight is read.
"""

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sottovoce.files.atomic import json_text, write_text
from sottovoce.models.checkpoint import IDENTITY, Checkpoint, first_line, read_json
from sottovoce.models.fit import blamed_on_config

TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",), ("spiece.model",))
_FRONTENDS = ("preprocessor_config.json", "processor_config.json")
_GENERATION = "generation_config.json"
OWN = "sottovoce"  # our key in config.json: what transformers' keys cannot say
WIDTHS = "widths"  # what stands there for models/widths.py, whatever the family
_LICENCES = ("LICEN", "NOTICE")
_MELS = 80  # of a Whisper's feature extractor that says nothing else


def is_companion(name: str) -> bool:
    """Whether a file of that name belongs to a model: configuration, processor, tokenizer, licence."""
    return name in IDENTITY or name.upper().startswith(_LICENCES)


def companions(folder: Path) -> list[Path]:
    """The files beside the weights that a model needs, and its licence; not what else a user keeps there."""
    return [file for file in sorted(folder.iterdir()) if file.is_file() and is_companion(file.name)]


def write_companions(
    source: Path, folder: Path, settings: Mapping[str, Any], files: Mapping[str, str | None] | None = None
) -> None:
    """Copy the files beside a checkpoint's weights, with `settings` in the place of what they say otherwise.

    What is OWN stands in config.json, whether or not it did before; an empty one goes.

    files  the texts of those that are written anew, by name; None for one that is left out
    """
    anew = files or {}
    for file in companions(source):
        if file.name not in anew:
            shutil.copyfile(file, folder / file.name)
    for name, text in anew.items():
        if text is not None:
            write_text(folder / name, text)
    for name in ("config.json", _GENERATION, *_FRONTENDS) if settings else ():
        if (folder / name).is_file():
            document = read_json(folder / name)
            for part in (document, document.get("feature_extractor", {})):
                part.update({key: value for key, value in settings.items() if key in part})
            if name == "config.json" and OWN in settings:
                document[OWN] = settings[OWN]
                document = {key: value for key, value in document.items() if key != OWN or value}
            write_text(folder / name, json_text(document))


def own_settings(checkpoint: Checkpoint, config: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The settings in a config.json that are sottovoce's alone, widths left out.

    known  those that the family has

    Raises ValueError for others: a model that was changed in a way that this version cannot follow.
    """
    found = config.get(OWN, {})
    unknown = sorted(set(found) - {*known, WIDTHS}) if isinstance(found, dict) else [repr(found)]
    if unknown:
        raise ValueError(
            f"{checkpoint.folder / 'config.json'}: this version does not know the setting {unknown[0]} of {OWN}; a "
            "newer one may"
        )
    return {key: value for key, value in found.items() if key != WIDTHS}


def check_listed(folder: Path, listed: Collection[str]) -> None:
    """Raise ValueError if a folder holds a file that decides transcripts and that its manifest does not list."""
    for name in IDENTITY:
        if name not in listed and (folder / name).is_file():
            raise ValueError(
                f"{folder} holds {name}, which its table does not name and which may change what it transcribes; "
                "move it elsewhere"
            )


def check_companions(checkpoint: Checkpoint, tokenizers: Sequence[Sequence[str]] = TOKENIZERS) -> None:
    """Raise ValueError unless tokenizer, feature extractor and generation config are there and fit the model.

    tokenizers  the sets of files of which one is enough to write tokens as text
    """
    folder = checkpoint.folder
    config = read_json(folder / "config.json")
    origin = config.get("_name_or_path")
    named = f", {origin}" if isinstance(origin, str) and origin and origin != checkpoint.name else ""
    cure = f"copy it from the model that this one was trained from{named}"
    if not any(all((folder / name).is_file() for name in names) for names in tokenizers):
        first, *others = (" with ".join(names) for names in tokenizers)
        told = f" (nor {', nor '.join(others)})" if others else ""
        raise ValueError(f"{checkpoint.name} holds no {first}{told}, so no token can be written as text; {cure}")
    extractors = dict(_extractors(folder))
    if not extractors:
        raise ValueError(
            f"{checkpoint.name} holds no preprocessor_config.json (nor a processor_config.json with a "
            f"feature_extractor), which says how audio becomes features; {cure}"
        )
    for name, extractor in extractors.items():
        wanted, made = config.get("num_mel_bins"), extractor.get("feature_size", _MELS)
        if wanted not in (None, made):
            raise ValueError(
                f"{folder / name} makes {made} mel bins, and the model of config.json takes {wanted}; {cure}"
            )
    for name in ("config.json", _GENERATION):
        if (folder / name).is_file():
            _check_tokens(folder / name, config.get("vocab_size"), cure)


def _extractors(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in _FRONTENDS:
        if (folder / name).is_file():
            document = read_json(folder / name)
            extractor = document.get("feature_extractor") if name == "processor_config.json" else document
            if isinstance(extractor, dict):
                yield name, extractor


def extractor_of(folder: Path) -> Mapping[str, Any]:
    """What a folder says of features; where two files do, the one that transformers reads."""
    found = dict(_extractors(folder))
    return found.get("processor_config.json") or found["preprocessor_config.json"]


def open_processor(checkpoint: Checkpoint) -> Any:
    """transformers' processor of a checkpoint: feature extractor and tokenizer.

    Raises ValueError, with the file's name where one can be blamed, if they cannot be opened or know no text.
    """
    from transformers import AutoConfig, AutoProcessor

    with blamed_on_config(checkpoint):
        AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    try:
        processor = AutoProcessor.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # of any kind, from libraries that take the files on trust
        for name in IDENTITY:
            if name.endswith(".json") and (checkpoint.folder / name).is_file():
                read_json(checkpoint.folder / name)
        raise ValueError(
            f"{checkpoint.name}: its tokenizer or feature extractor cannot be opened ({type(error).__name__}: "
            f"{first_line(error)}); copy tokenizer.json and preprocessor_config.json from the model that this one was "
            "trained from"
        ) from error
    tokenizer = processor.tokenizer
    if len(tokenizer.get_vocab()) <= len(tokenizer.get_added_vocab()):
        raise ValueError(
            f"{checkpoint.name}: its tokenizer knows special tokens and no text; copy tokenizer.json from the model "
            "that this one was trained from"
        )
    return processor


# --- numbers of tokens ----------------------------------------------------------------------------


def _check_tokens(file: Path, vocabulary: object, cure: str) -> None:
    """Raise ValueError if a setting of generation is of another type, or names a token that the model lacks."""
    document = read_json(file)
    for key, (read, wanted) in _SETTINGS.items():
        value = document.get(key)
        if value is None or value == "":  # as trainers leave what they took out
            continue
        try:
            numbers = list(read(value))
        except (TypeError, ValueError):
            raise ValueError(f"{file}: {key} is {_short(value)}; {wanted} would work, or {cure}") from None
        for number in numbers:
            if isinstance(vocabulary, int) and not 0 <= number < vocabulary:
                raise ValueError(
                    f"{file}: {key} names token {number}, and the model of config.json has the tokens 0 to "
                    f"{vocabulary - 1}; correct it, or {cure}"
                )


def _one(value: Any) -> Iterator[int]:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    yield value


def _list(value: Any) -> Iterator[int]:
    if not isinstance(value, list):
        raise TypeError
    for item in value:
        yield from _one(item)


def _one_or_list(value: Any) -> Iterator[int]:
    return _list(value) if isinstance(value, list) else _one(value)


def _pairs(value: Any) -> Iterator[int]:
    """[[1, 50259], [2, null]]: places, and the tokens that stand there; null leaves the choice to the model."""
    if not isinstance(value, list):
        raise TypeError
    for _, token in value:
        if token is not None:
            yield from _one(token)


def _mapping(value: Any) -> Iterator[int]:
    if not isinstance(value, dict):
        raise TypeError
    for item in value.values():
        yield from _one(item)


def _of(kind: type) -> Callable[[Any], Iterable[int]]:
    def read(value: Any) -> Iterable[int]:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError
        return ()

    return read


_SETTINGS: dict[str, tuple[Callable[[Any], Iterable[int]], str]] = {
    "suppress_tokens": (_list, "a list of token numbers"),
    "begin_suppress_tokens": (_list, "a list of token numbers"),
    "forced_decoder_ids": (_pairs, "a list of pairs of a place and a token"),
    "eos_token_id": (_one_or_list, "a token number or a list of them"),
    "decoder_start_token_id": (_one, "a token number"),
    "no_timestamps_token_id": (_one, "a token number"),
    "lang_to_id": (_mapping, "an object of token numbers"),
    "task_to_id": (_mapping, "an object of token numbers"),
    "is_multilingual": (_of(bool), "true or false"),
    "language": (_of(str), "a string"),
    "task": (_of(str), "a string"),
    "max_length": (_of(int), "a whole number"),
    "max_new_tokens": (_of(int), "a whole number"),
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
