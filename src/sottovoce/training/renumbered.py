"""A student with fewer tokens than its teacher: which of the teacher's each of its own is.

trim_vocabulary numbers the tokens that stay anew, and a word whose token went is written with smaller ones, which the
teacher has too. So the teacher reads what the student reads, and is asked about the tokens that both have.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sottovoce.models.frontend import Frontend


def teachers_numbers(student: Frontend, teacher: Frontend) -> Tensor | None:
    """(tokens,) int64: the teacher's number of each token of the student; None where they are the same.

    Raises ValueError for a token that the teacher has not.
    """
    if student.vocabulary == teacher.vocabulary:
        return None
    known = teacher.tokenizer.get_vocab()
    found = {number: known[token] for token, number in student.tokenizer.get_vocab().items() if token in known}
    found |= dict(zip(student.time_tokens, teacher.time_tokens, strict=False))  # a tokenizer may not name them
    unknown = next((number for number in range(student.vocabulary) if number not in found), None)
    if unknown is not None:
        raise ValueError(
            f"token {unknown} of {student.checkpoint.name} is not among those of {teacher.checkpoint.name}, from "
            "which it would learn; the uncompressed model with its own tokenizer would work"
        )
    return torch.tensor([found[number] for number in range(student.vocabulary)])


def in_own_tokens(tokens: Sequence[int], student: Frontend, teacher: Frontend, most: int) -> list[int]:
    """The teacher's tokens of a transcript, with or without its end, as the student writes the same text.

    most  tokens that the student writes; a text that takes more has no end, as one that the teacher did not finish
    """
    ended = bool(tokens) and tokens[-1] in teacher.end_tokens()
    text = student.text_tokens(teacher.text(tokens))
    return [*text, student.end_tokens()[0]] if ended and len(text) < most else text[:most]
