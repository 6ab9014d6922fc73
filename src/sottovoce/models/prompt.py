"""What a Whisper's prompt is made of: generation_config.json, and where that is silent the tokenizer.

A released English-only Whisper has GPT-2's vocabulary, whose <|endoftext|> is 50256; a multilingual one has its own,
whose <|endoftext|> is 50257. The tokenizers of both list all language tokens, so these alone tell nothing. In a
vocabulary that was cut (trim_vocabulary) the number is any: what generation_config.json says counts before it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FILE = "generation_config.json"
LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
PROMPT = (  # what `complete` may add
    "is_multilingual",
    "decoder_start_token_id",
    "lang_to_id",
    "task_to_id",
    "language",
    "task",
    "no_timestamps_token_id",
)
_TASKS = ("transcribe", "translate")
_START, _END, _NO_TIMESTAMPS = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
_MULTILINGUAL = {50256: False, 50257: True}  # by the id of <|endoftext|>, in the released models


@dataclass(frozen=True)
class Sources:
    """What a checkpoint says of its prompt.

    name        what the checkpoint is called
    generation  generation_config.json; None without that file
    config      config.json, as it is written
    added       the tokens that the tokenizer has beside its vocabulary, with their ids
    vocabulary  tokens that the head scores
    """

    name: str
    generation: Mapping[str, Any] | None
    config: Mapping[str, Any]
    added: Mapping[str, int]
    vocabulary: int


def complete(sources: Sources) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The generation config with all that a prompt needs, and a note of each thing that it did not say itself.

    It then has decoder_start_token_id and is_multilingual; if multilingual, lang_to_id and task_to_id; language and
    task where an old forced_decoder_ids names them and nothing else does; no_timestamps_token_id if any source has it.
    Raises ValueError where the sources leave open or contradict what the prompt is.
    """
    name, added = sources.name, sources.added
    made = {key: value for key, value in (sources.generation or {}).items() if value is not None}
    languages = {token: i for token, i in added.items() if LANGUAGE.fullmatch(token)}
    tasks = {task: added[f"<|{task}|>"] for task in _TASKS if f"<|{task}|>" in added}
    lacking: list[str] = []

    forced = _forced(sources, made)
    multilingual, guessed = _multilingual(sources, made, forced, {*languages.values(), *tasks.values()})
    made["is_multilingual"] = multilingual
    made["decoder_start_token_id"] = _start(sources, made)
    if multilingual:
        for key, found in (("lang_to_id", languages), ("task_to_id", tasks)):
            if not made.get(key):
                lacking.append(key)
                made[key] = found
            _check_ids(sources, key, made[key])
        if "language" not in made and "task" not in made:
            made |= _by_kind(name, forced, made, added.get(_NO_TIMESTAMPS))
    if "no_timestamps_token_id" not in made and _NO_TIMESTAMPS in added:
        lacking.append("no_timestamps_token_id")
        made["no_timestamps_token_id"] = added[_NO_TIMESTAMPS]
    return made, tuple(_notes(sources, made, lacking, guessed))


def _forced(sources: Sources, said: Mapping[str, Any]) -> list[int | None]:
    """The tokens that older checkpoints force after the start, in their order; None is a language to be detected."""
    pairs = said.get("forced_decoder_ids") or sources.config.get("forced_decoder_ids") or ()
    try:
        tokens = [token for _, token in sorted(pairs)]
    except (TypeError, ValueError):
        tokens = [""]
    if not all(token is None or isinstance(token, int) for token in tokens):
        raise ValueError(
            f"{sources.name}: forced_decoder_ids is {pairs!r}; pairs of a place and a token's id, as [[1, 50261]], "
            "would work"
        )
    return tokens


def _multilingual(
    sources: Sources, said: Mapping[str, Any], forced: Sequence[int | None], named: set[int]
) -> tuple[bool, bool]:
    """Whether the prompt names a language and a task, and whether the vocabulary alone had to tell."""
    by_vocabulary = _MULTILINGUAL.get(sources.added.get(_END, -1))
    stated = said.get("is_multilingual")
    if stated is False and said.get("lang_to_id"):
        raise ValueError(
            f"{_FILE} of {sources.name} says is_multilingual: false and lists languages in lang_to_id; "
            "remove the one that is wrong"
        )
    if not isinstance(stated, bool) and ("lang_to_id" in said or None in forced or named & set(forced)):
        stated = True
    if stated and by_vocabulary is False and not said.get("lang_to_id"):
        raise ValueError(
            f"{sources.name} has the vocabulary of an English-only Whisper ({_END} is {sources.added[_END]}), and its "
            f"{_FILE} takes it for multilingual without lang_to_id; the files of one model, or lang_to_id, would work"
        )
    if isinstance(stated, bool):
        return stated, False
    if by_vocabulary is None:
        missing = "says no is_multilingual in" if sources.generation is not None else "has no"
        raise ValueError(
            f"{sources.name} {missing} {_FILE}, and its {sources.vocabulary} tokens are no released Whisper's, so it "
            f"may be English only or multilingual; write is_multilingual into {_FILE}"
        )
    return by_vocabulary, True


def _start(sources: Sources, said: Mapping[str, Any]) -> int:
    """The first token of the prompt. Raises ValueError if the tokenizer knows another, or nothing names one."""
    where, token = _FILE, said.get("decoder_start_token_id")
    if token is None:
        where, token = "config.json", sources.config.get("decoder_start_token_id")
    known = sources.added.get(_START, token)
    if not isinstance(known, int):
        raise ValueError(f"{sources.name} has no decoder_start_token_id in {_FILE}, without which it cannot transcribe")
    if token not in (None, known):
        raise ValueError(
            f"{sources.name} starts with token {token} by its {where}, and {_START} is {known} in its tokenizer; "
            "the files of one model would work"
        )
    return known


def _check_ids(sources: Sources, key: str, ids: Any) -> None:
    """Raise ValueError unless `ids` maps names to tokens that the model scores and the tokenizer calls so."""
    if not isinstance(ids, dict) or not all(isinstance(token, int) for token in ids.values()):
        raise ValueError(f"{sources.name}: {key} in {_FILE} is {ids!r:.60}; a mapping from names to ids would work")
    if not ids:
        raise ValueError(
            f"{sources.name} is multilingual, and neither {_FILE} ({key}) nor its tokenizer has the tokens for it; "
            "add the tokenizer.json that it was trained with"
        )
    for name, token in ids.items():
        called = name if name.startswith("<|") else f"<|{name}|>"
        if (known := sources.added.get(called, token)) != token:
            raise ValueError(
                f"{sources.name}: {called} is {token} in {_FILE} and {known} in its tokenizer; the files of one model "
                "would work"
            )
        if not 0 <= token < sources.vocabulary:
            raise ValueError(
                f"{sources.name}: {called} is token {token}, and its head scores {sources.vocabulary}; the files of "
                "one model would work"
            )


def _by_kind(
    name: str, forced: Sequence[int | None], said: Mapping[str, Any], no_timestamps: int | None
) -> dict[str, str]:
    """The language and the task that forced tokens name, told by what the tokens are: some files leave one out."""
    kinds = {"language": said["lang_to_id"], "task": said["task_to_id"]}
    found = {}
    for token in forced:
        kind = next((kind for kind, ids in kinds.items() if token in ids.values()), None)
        if kind is not None:
            found[kind] = next(word for word, i in kinds[kind].items() if i == token).strip("<|>")
        elif token not in (None, said.get("no_timestamps_token_id", no_timestamps)):
            raise ValueError(
                f"{name}: forced_decoder_ids names token {token}, which is no language, no task and not "
                f"{_NO_TIMESTAMPS}; remove forced_decoder_ids, or write language and task into {_FILE}"
            )
    return found


def _notes(sources: Sources, made: Mapping[str, Any], lacking: Sequence[str], guessed: bool) -> list[str]:
    """Where the prompt comes from, as far as generation_config.json does not say it."""
    name, said = sources.name, sources.generation
    kind = "multilingual" if made["is_multilingual"] else "English only"
    notes = []
    if said is None:
        notes.append(
            f"{name} has no {_FILE}: taken for {kind} by its vocabulary, prompted with its tokenizer's tokens, and no "
            "token is suppressed"
        )
    elif lacking or guessed:
        by = f": taken for {kind} by its vocabulary" if guessed else ""
        notes.append(
            f"{_FILE} of {name} lacks {', '.join(['is_multilingual'] * guessed + list(lacking))}{by}"
            + ("; what is missing comes from its tokenizer" if lacking else "")
        )
    usual = {"task": "transcribe"}
    own = [
        f"{key} {made[key]}"
        for key in ("language", "task")
        if key in made and (said or {}).get(key) is None and made[key] != usual.get(key)
    ]
    if own:
        notes.append(f"{name}: {' and '.join(own)} by its old forced_decoder_ids")
    if not made["is_multilingual"] and _MULTILINGUAL.get(sources.added.get(_END, -1)):
        notes.append(
            f"{name} has the multilingual vocabulary, and {_FILE} says is_multilingual: false: its prompt names no "
            "language and no task"
        )
    return notes
