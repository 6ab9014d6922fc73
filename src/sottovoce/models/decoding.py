"""What a family fixes about decoding: the prompt, the tokens never chosen, the end, the longest output; its result."""

from dataclasses import dataclass, field, replace

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
class TimeMarks:
    """Tokens of a model that writes when something was said (Whisper), and what else its long form works with.

    first, last  the tokens of the window's first time and of its last
    seconds      from one time to the next
    none         the token that says that no times follow
    no_speech    the token whose probability where a transcript starts is that of nobody speaking; None if there is none
    before       the token behind which stands what was said before; None if there is none
    """

    first: int
    last: int
    seconds: float
    none: int
    no_speech: int | None
    before: int | None

    def is_time(self, token: int) -> bool:
        """Whether it is the token of a time."""
        return self.first <= token <= self.last

    def at(self, token: int) -> float:
        """The time of a token, in seconds from the window's start."""
        return (token - self.first) * self.seconds

    def asked(self, rules: DecodingRules) -> DecodingRules:
        """The rules of a transcript with times: the prompt does not say that there are none."""
        prompt = tuple(token for token in rules.prompt if token != self.none)
        return replace(rules, prompt=prompt, suppressed=tuple(sorted({*rules.suppressed, self.none})))


@dataclass(frozen=True)
class Decoded:
    """The prompt and the tokens chosen for one clip, without the end; whether the longest output cut it off.

    log_probability  of the tokens and the end, in nats, which no comparison looks at: runtimes differ in its last bits;
                     None where the search does not tell
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    capped: bool
    log_probability: float | None = field(default=None, compare=False)
