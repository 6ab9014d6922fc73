"""What a family fixes about decoding: the prompt, the tokens never chosen, the end, the longest output; its result."""

from dataclasses import dataclass

ANY_NUMBER = 10**9  # as most_tokens where the clip alone sets an end


@dataclass(frozen=True)
class DecodingRules:
    """How a transcript starts and ends.

    prompt            tokens before the first one chosen; None marks the language, to be detected
    languages         tokens among which a language is detected
    suppressed        tokens never chosen; suppressed_first: nor as the first one
    end               tokens that end a transcript
    most_tokens       tokens chosen at most, the end included
    blank             of a CTC model, whose every frame chooses a token, the one that stands for none; None where a
                      decoder writes token after token
    """

    prompt: tuple[int | None, ...]
    end: tuple[int, ...]
    most_tokens: int
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    languages: tuple[int, ...] = ()
    blank: int | None = None

    @property
    def by_frames(self) -> bool:
        """Whether every frame chooses a token (CTC), so that there is no decoder."""
        return self.blank is not None

    def forbidden(self, place: int) -> tuple[int, ...]:
        """The tokens that are not chosen as the one at `place`, from 0."""
        return self.suppressed if place else (*self.suppressed, *self.suppressed_first)


@dataclass(frozen=True)
class Decoded:
    """The prompt and the tokens chosen for one clip, without the end; whether the longest output cut it off."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    capped: bool
