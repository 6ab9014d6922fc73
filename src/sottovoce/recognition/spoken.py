"""Which language each row of a corpus is transcribed in, and which its reference is written in."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sottovoce.models.frontend import Frontend
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.speech.datasets import Corpus, Utterance
from sottovoce.speech.languages import language_code

T = TypeVar("T")
_SHOWN = 8


@dataclass(frozen=True)
class Spoken:
    """The language and the task that were asked for a whole run, None where each row or the checkpoint says it."""

    language: str | None = None
    task: str | None = None

    def prompted(self, utterance: Utterance, frontend: Frontend) -> str | None:
        """What a row's prompt is asked for: the run's language, else the row's, where the model knows several."""
        return self.language or (utterance.language if len(frontend.languages or ()) > 1 else None)

    def of_reference(self, own: str | None) -> str | None:
        """The language of a row's text: its own, else the run's; English where Whisper translates into it."""
        if self.task == "translate":
            return "en"
        return own or (language_code(self.language) if self.language else None)

    def check(self, corpus: Corpus, frontend: Frontend, name: str) -> None:
        """Raise ValueError for rows in languages that the model does not know, unless the run names one for all."""
        known = frontend.languages
        if self.language is not None or known is None:
            return
        rows = Counter(u.language for u in corpus.utterances if u.language and u.language not in known)
        if not rows:
            return
        most = [f"{language} ({count})" for language, count in rows.most_common(_SHOWN)]
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        able, instead = f"knows {len(known)} languages", "set one language for all rows (--language)"
        if known == ("en",):
            able, instead = "transcribes English only", "take a multilingual Whisper"
        raise ValueError(
            f"{name} {able}, and {rows.total()} of the {len(corpus)} rows of {corpus.name} are in others: "
            f"{', '.join(most)}{more}; leave them out, or {instead}"
        )

    def of_all(self, corpus: Corpus, frontend: Frontend) -> str | None:
        """The one language of a corpus whose rows are prompted alike. Raises ValueError if they name several."""
        rows = Counter(self.prompted(utterance, frontend) for utterance in corpus.utterances)
        if len(rows) > 1:
            named = ", ".join(f"{language or 'none'} ({count})" for language, count in rows.most_common(_SHOWN))
            raise ValueError(
                f"the rows of {corpus.name} name {len(rows)} languages: {named}; training takes one, so leave the "
                "others out, or set one language for all rows (--language)"
            )
        return next(iter(rows), None)

    def by_prompt(
        self, rows: Sequence[T], utterance: Callable[[T], Utterance], recognizer: Recognizer
    ) -> list[tuple[Recognizer, list[T]]]:
        """The rows in groups of one language, each with the recognizer that is prompted in it; no model opens again."""
        groups: dict[str | None, list[T]] = {}
        for row in rows:
            groups.setdefault(self.prompted(utterance(row), recognizer.frontend), []).append(row)
        return [
            (self._speaking(recognizer, language), groups[language])
            for language in sorted(groups, key=lambda language: language or "")
        ]

    def _speaking(self, recognizer: Recognizer, language: str | None) -> Recognizer:
        if language in (None, self.language):
            return recognizer
        return replace(recognizer, rules=recognizer.frontend.rules(language, self.task))
