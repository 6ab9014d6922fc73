"""The error rates of one score language by language, and what has to be said of its normalizers and units."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sottovoce.measure.transcripts import Transcript
from sottovoce.measure.wer import WordErrors
from sottovoce.speech.text import AUTO, Normalizer, NormalizerChoice, is_english
from sottovoce.speech.units import RATES, Unit, unit_of_all

_SHOWN = 8


@dataclass(frozen=True)
class LanguageScore:
    """The rows of one language in a score.

    language         a code as "de"; None where neither manifest nor user says it
    unit             "word" or "character", or "mixed"
    wer              percent of reference_words, which counts characters where these are the unit; None without any
    """

    language: str | None
    unit: str
    utterances: int
    errors: int
    reference_words: int
    wer: float | None

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "LanguageScore":
        """The inverse of asdict."""
        return LanguageScore(**document)


def by_language(
    languages: Sequence[str | None], units: Sequence[Unit], errors: Sequence[WordErrors]
) -> tuple[LanguageScore, ...]:
    """A score for each language, those with most rows first; none if there is only one."""
    counts = Counter(languages)
    return tuple(_one(language, languages, units, errors) for language, _ in counts.most_common() if len(counts) > 1)


def _one(
    language: str | None, languages: Sequence[str | None], units: Sequence[Unit], errors: Sequence[WordErrors]
) -> LanguageScore:
    places = [i for i, found in enumerate(languages) if found == language]
    total = sum((errors[i] for i in places), WordErrors(0, 0, 0, 0))
    unit = unit_of_all(units[i] for i in places)
    wer = total.wer if math.isfinite(total.wer) else None
    return LanguageScore(language, unit, len(places), total.errors, total.reference_words, wer)


def normalizer_words(used: Sequence[Normalizer]) -> tuple[str, str]:
    """The name and the version of the normalizers of all rows; where they differ, how many rows each had."""
    counts = Counter(normal.name for normal in used)
    parts = dict.fromkeys(part for normal in used for part in normal.version.split(", "))
    if len(counts) == 1:
        return used[0].name, used[0].version
    rows = [f"{name} {count} row{'s' * (count > 1)}" for name, count in counts.most_common()]
    return f"{AUTO}: {', '.join(rows)}", ", ".join(parts)


def notes(rows: Sequence[Transcript], units: Sequence[Unit], choice: NormalizerChoice) -> tuple[str, ...]:
    """What a reader of the score has to know: units, an English normalizer on other languages, languages unsaid."""
    found = []
    if (unit := unit_of_all(units)) != "word":
        rows_of = f"in {units.count('character')} of {len(units)} rows, " if unit == "mixed" else ""
        found.append(f"{RATES[unit]}: {rows_of}characters are counted, as the language has no spaces between words")
    other = [row for row in rows if not is_english(row.reference, row.reference_language)]
    if choice.name == "whisper-english" and other:
        found.append(
            f"whisper-english was applied to {len(other)} of {len(rows)} rows that are not English; "
            "--normalizer auto fits each row"
        )
    unsaid = [row for row in rows if row.reference_language is None and row.language not in (None, "en")]
    taken = [row for row in unsaid if choice.of(row.reference, None).name == "whisper-english"]
    if taken:
        found.append(
            f"{len(taken)} of {len(rows)} rows name no language, were transcribed as {_listed(taken)}, and were "
            "normalised as English; name the language in the manifest, or with --language"
        )
    return tuple(found)


def _listed(rows: Iterable[Transcript]) -> str:
    counts = Counter(str(row.language) for row in rows).most_common()
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return ", ".join(f"{language} ({count})" for language, count in counts[:_SHOWN]) + more
