"""A model with fewer tokens than it had: which of the old ones each is, and what was written in those.

trim_vocabulary numbers the tokens that stay anew, and a word whose token went is written with smaller ones, which the
uncompressed model has too. So calibration clips are written anew; and a teacher reads what its student reads, and is
asked about the tokens that both have.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sottovoce.models.frontend import Frontend
from sottovoce.models.structure import Clip


def numbers_before(now: Frontend, before: Frontend) -> Tensor | None:
    """(tokens,) int64: which number each token has in `before`; None where all have the same.

    Raises ValueError for a token that is not there.
    """
    if now.vocabulary == before.vocabulary:
        return None
    known = before.tokenizer.get_vocab()
    found = {number: known[token] for token, number in now.tokenizer.get_vocab().items() if token in known}
    found |= dict(zip(now.time_tokens, before.time_tokens, strict=False))  # a tokenizer may not name them
    unknown = next((number for number in range(now.vocabulary) if number not in found), None)
    if unknown is not None:
        raise ValueError(
            f"token {unknown} of {now.checkpoint.name} is not among those of {before.checkpoint.name}, from "
            "which it would learn; the uncompressed model with its own tokenizer would work"
        )
    return torch.tensor([found[number] for number in range(now.vocabulary)])


class InOwnTokens:
    """Transcripts in the tokens of `before`, with or without their end, as `now` writes the same text.

    most  tokens that the model writes; a text that takes more has no end, as one that was not finished
    own   the number that each token of `before` has now, if it stayed
    """

    def __init__(self, now: Frontend, before: Frontend, most: int) -> None:
        self.now, self.before, self.most = now, before, most
        numbers = numbers_before(now, before)
        kept = range(now.vocabulary) if numbers is None else numbers.tolist()
        self.own = {number: place for place, number in enumerate(kept)}

    def __call__(self, tokens: Sequence[int]) -> list[int]:
        """The tokens of one transcript."""
        if all(token in self.own for token in tokens):
            return [self.own[token] for token in tokens]
        ended = tokens[-1] in self.before.end_tokens()
        text = self.now.text_tokens(self.before.text(tokens))
        return [*text, self.now.end_tokens()[0]] if ended and len(text) < self.most else text[: self.most]


def written_anew(clips: Sequence[Clip], now: Frontend, before: Frontend) -> tuple[Clip, ...]:
    """Clips whose tokens are those of `before`, prompt first, with the tokens of `now`."""
    if now.vocabulary == before.vocabulary:
        return tuple(clips)
    anew = InOwnTokens(now, before, now.rules().most_tokens)
    beside = {*before.tokenizer.get_added_tokens_decoder(), *before.time_tokens}

    def written(tokens: Sequence[int]) -> list[int]:
        prompt = next((place for place, token in enumerate(tokens) if token not in beside), len(tokens))
        return [*(anew.own[token] for token in tokens[:prompt]), *anew(tokens[prompt:])]

    return tuple(replace(clip, tokens=torch.tensor([written(clip.tokens[0].tolist())])) for clip in clips)
