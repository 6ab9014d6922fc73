"""A byte-pair encoding with fewer tokens, which writes every text and reads its own tokens as before.

Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016, arXiv:1508.07909,
section 3.2: a text is taken apart into characters, and the pair that stands first in the list of merges is joined
until none is left. So a token is reached by pieces that stand in the vocabulary too. Where they stay, and the merges
between pieces that stay keep their order, a text whose tokens all stay is written with the same tokens: each merge that
was made is still there, and no other was added that could come before it. A text with a token that went is written
with smaller pieces, in the end with bytes.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

_BYTE = re.compile("<0x[0-9A-F]{2}>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # as SentencePiece writes the blank
_TEMPLATES = ("TemplateProcessing", "ByteLevel", "Sequence")


@dataclass(frozen=True)
class BytePairs:
    """The model of a tokenizer.json, `document`, of the checkpoint `name`."""

    name: str
    document: Mapping[str, Any]

    def __post_init__(self) -> None:
        model, kinds = self._model, _kinds(self.document.get("post_processor"))
        if model.get("type") != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise ValueError(
                f"{self.name} has a tokenizer of type {model.get('type')}, whose tokens cannot be cut; byte-pair "
                "encoding without prefixes and suffixes would work"
            )
        if not (self.byte_level or model.get("byte_fallback")):
            raise ValueError(
                f"{self.name} has a tokenizer without tokens for bytes, so a text with a token that went could not be "
                "written; ByteLevel or byte_fallback would work"
            )
        if strange := [kind for kind in kinds if kind not in _TEMPLATES]:
            raise ValueError(f"{self.name} has a tokenizer with {strange[0]}; {', '.join(_TEMPLATES)} would work")

    @property
    def _model(self) -> Mapping[str, Any]:
        model: Mapping[str, Any] = self.document["model"]
        return model

    @cached_property
    def byte_level(self) -> bool:
        """Whether every character of a token stands for a byte."""
        return "ByteLevel" in _kinds(self.document.get("decoder"))

    @property
    def numbers(self) -> Mapping[str, int]:
        """The number of every token of the model; added ones are not among them, unless they are in both."""
        numbers: Mapping[str, int] = self._model["vocab"]
        return numbers

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs that are joined, the first first."""
        return [_pair(merge) for merge in self._model["merges"]]

    @cached_property
    def ranks(self) -> dict[tuple[str, str], int]:
        """The place of each pair in the list of merges."""
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def letters(self) -> frozenset[int]:
        """The tokens in which any text can be written: all bytes, the characters of ASCII, the blank."""
        return frozenset(number for token, number in self.numbers.items() if self._is_letter(token))

    def _is_letter(self, token: str) -> bool:
        if self.byte_level:
            return len(token) == 1
        return _BYTE.fullmatch(token) is not None or token == _SPACE or (len(token) == 1 and token.isascii())

    def by_rank(self) -> list[int]:
        """Every token that a merge makes, by the first merge that makes it: common ones come first."""
        return [self.numbers[token] for token in dict.fromkeys(a + b for a, b in self.merges)]

    def way(self, token: str) -> frozenset[int] | None:
        """The pieces through which merges reach a token, itself among them; None if no text is written with it."""
        pieces = list(token)
        passed = set(pieces)
        while len(pieces) > 1:
            ranked = [(self.ranks[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in self.ranks]
            if not ranked:
                return None
            _, at = min(ranked)
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
            passed.add(pieces[at])
        return frozenset(self.numbers[piece] for piece in passed) if passed <= self.numbers.keys() else None

    def cut(self, now: Mapping[int, int]) -> dict[str, Any]:
        """The document of a tokenizer that has the tokens of `now` alone, from the numbers they had to those they get.

        Merges whose parts or whose result went are dropped, the others keep their order.
        """
        document = deepcopy(dict(self.document))
        model = document["model"]
        model["vocab"] = vocabulary = {token: now[number] for token, number in self.numbers.items() if number in now}
        pairs = zip(model["merges"], self.merges, strict=True)
        model["merges"] = [merge for merge, (a, b) in pairs if {a, b, a + b} <= vocabulary.keys()]
        document["added_tokens"] = [
            {**token, "id": now[token["id"]]} for token in document.get("added_tokens", ()) if token["id"] in now
        ]
        for special in _templates(document.get("post_processor")):
            special["ids"] = [now[number] for number in special["ids"]]
        if document.get("padding"):
            document["padding"]["pad_id"] = now[document["padding"]["pad_id"]]
        return document

    def named(self) -> Collection[int]:
        """The tokens that the document names beside its lists: around every text, in padding, for what is unknown."""
        found = {number for special in _templates(self.document.get("post_processor")) for number in special["ids"]}
        if self.document.get("padding"):
            found.add(self.document["padding"]["pad_id"])
        if (unknown := self.numbers.get(self._model.get("unk_token") or "")) is not None:
            found.add(unknown)
        return found


def merges_text(merges: Sequence[Any]) -> str:
    """The file merges.txt of a tokenizer.json's merges."""
    return "".join(["#version: 0.2\n", *(" ".join(_pair(merge)) + "\n" for merge in merges)])


def _pair(merge: Any) -> tuple[str, str]:
    """["a", "b"], or "a b" as older files have it."""
    a, b = merge.split(" ") if isinstance(merge, str) else merge
    return a, b


def _kinds(part: Any) -> list[str]:
    """The types of a part of a tokenizer, and of those that it is a sequence of."""
    if not part:
        return []
    inner = [*part.get("processors", ()), *part.get("decoders", ())]
    return [part["type"], *(kind for one in inner for kind in _kinds(one))]


def _templates(part: Any) -> list[dict[str, Any]]:
    """What a post-processor says of each token that it puts around a text."""
    if not part:
        return []
    inner = [special for one in part.get("processors", ()) for special in _templates(one)]
    return [*part.get("special_tokens", {}).values(), *inner]
