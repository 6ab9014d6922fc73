"""The tokens of a model that writes token by token: which it cannot do without, and its files with fewer of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.files.atomic import json_text
from sottovoce.models.bpe import BytePairs, merges_text
from sottovoce.models.checkpoint import read_json
from sottovoce.models.token_numbers import SIZE, named_contents, named_tokens, renumbered, settings_of
from sottovoce.models.tokenizer import TOKENIZER

if TYPE_CHECKING:
    from sottovoce.models.frontend import Frontend

_CONFIG, _GENERATION = "config.json", "generation_config.json"
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
_OLDER = ("tokenizer.model", "spiece.model")  # whose tokens tokenizer.json has too


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a frontend's checkpoint.

    A token is called by the number of its row in the table that is looked up, which is its row in the head.
    """

    frontend: "Frontend"

    @property
    def size(self) -> int:
        """Tokens that the head scores."""
        return self.frontend.vocabulary

    @cached_property
    def pairs(self) -> BytePairs:
        """How text becomes tokens. Raises ValueError for a tokenizer of another kind."""
        file = self._folder / TOKENIZER
        document = read_json(file) if file.is_file() else json.loads(self.frontend.tokenizer.to_str())
        return BytePairs(self.frontend.checkpoint.name, document)

    @property
    def _folder(self) -> Path:
        return self.frontend.checkpoint.folder

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of every token, added ones too, that the head scores."""
        added = {token["content"]: token["id"] for token in self.pairs.document.get("added_tokens", ())}
        return {token: number for token, number in {**self.pairs.numbers, **added}.items() if number < self.size}

    @cached_property
    def control(self) -> Mapping[int, str]:
        """The tokens beside text that have to stay, with who names them: prompt, end, padding, tasks.

        Languages and times are not among them, unless a file names one for a purpose of its own. Raises ValueError
        for a token that a file names and the head does not score.
        """
        found: dict[int, str] = {}
        for by, number in self._named():
            if not 0 <= number < self.size:
                raise ValueError(
                    f"{by} of {self.frontend.checkpoint.name} names token {number}, and its head scores 0 to "
                    f"{self.size - 1}; correct it"
                )
            found.setdefault(number, by)
        return found

    def _named(self) -> Iterator[tuple[str, int]]:
        documents = {_CONFIG: self.frontend.config, _GENERATION: self.frontend.generation_file() or {}}
        for file, document in documents.items():
            yield from ((f"{key} in {file}", number) for key, number in named_tokens(document))
        yield from ((TOKENIZER, number) for number in self.pairs.named())
        for file in _SETTINGS:
            contents = named_contents(self._read(file))
            yield from ((file, self.numbers[content]) for content in contents if content in self.numbers)
        prompt = self.frontend.rules().prompt
        yield from (("its prompt", number) for number in (*prompt, *self.frontend.end_tokens()) if number is not None)
        yield from (("its family", number) for number in sorted(self.frontend.control_tokens()))

    @cached_property
    def suppressed(self) -> frozenset[int]:
        """The tokens that are never chosen."""
        return frozenset(self.frontend.generation.get("suppress_tokens") or ())

    def _read(self, name: str) -> dict[str, Any]:
        file = self._folder / name
        return read_json(file) if file.is_file() else {}

    # --- fewer ----------------------------------------------------------------------------------

    def files(self, kept: Sequence[int]) -> dict[str, str | None]:
        """The files beside the weights of a model that has the tokens `kept` alone, in rising order, by name.

        None for one that is left out. Raises ValueError if a token is missing that the model cannot do without.
        """
        now = {number: place for place, number in enumerate(kept)}
        if lost := sorted(number for number in self.control.keys() - now.keys()):
            raise ValueError(
                f"token {lost[0]} of {self.frontend.checkpoint.name} has to stay: {self.control[lost[0]]} names it"
            )
        gone = frozenset(token for token, number in self.numbers.items() if number not in now)
        document = self.pairs.cut(now)
        made = {TOKENIZER: json_text(document), _CONFIG: json_text(self.config(now))}
        if (generation := self.frontend.generation_file()) is not None:
            made[_GENERATION] = json_text(renumbered(generation, now))
        for name in _SETTINGS:
            if (self._folder / name).is_file():
                settings = self.frontend.tokenizer_settings(self._read(name), now)
                made[name] = json_text(settings_of(settings, now, gone))
        made |= {name: json_text(of) for name, of in self._lists(now).items()}
        if (self._folder / "merges.txt").is_file():
            made["merges.txt"] = merges_text(document["model"]["merges"])
        return {**made, **{name: None for name in _OLDER if (self._folder / name).is_file()}}

    def config(self, now: Mapping[int, int]) -> dict[str, Any]:
        """config.json with the numbers of `now`, and with those that the family takes where no file says them."""
        start, ends = self.frontend.rules().prompt[0], list(self.frontend.end_tokens())
        usual = {"decoder_start_token_id": start, "eos_token_id": ends[0] if len(ends) == 1 else ends}
        return {**renumbered({**usual, **self.frontend.config}, now), SIZE: len(now)}

    def _lists(self, now: Mapping[int, int]) -> dict[str, dict[str, int]]:
        """The files that list tokens with their numbers, as older tokenizers have them."""
        listed = {name: self._read(name) for name in ("vocab.json", "added_tokens.json")}
        return {
            name: {token: now[number] for token, number in numbers.items() if number in now}
            for name, numbers in listed.items()
            if (self._folder / name).is_file()
        }
