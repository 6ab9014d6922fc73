"""What an error rate counts: words, or characters in languages that write no spaces between words."""

import unicodedata
from collections.abc import Iterable
from typing import Literal

Unit = Literal["word", "character"]
RATES = {"word": "WER", "character": "CER", "mixed": "WER/CER"}
# Chinese, Cantonese, Japanese, Thai, Lao, Burmese, Khmer, Tibetan
CHARACTER_LANGUAGES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})
# as the names of Unicode's letters begin; "CJK" are the ideographs
_CHARACTER_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR", "KHMER", "TIBETAN")


def unit_of(reference: str, language: str | None = None) -> Unit:
    """Characters if the language writes no spaces between words, or most letters of the reference are such; else words.

    language  a code as "zh", None where it is not known: then the letters alone decide
    """
    return "character" if language in CHARACTER_LANGUAGES or _mostly(reference, _CHARACTER_SCRIPTS) else "word"


def mostly_latin(text: str) -> bool:
    """Whether most letters of the text are Latin ones, or it has no letter."""
    return _mostly(text, ("LATIN",)) or not any(map(str.isalpha, text))


def split(text: str, unit: Unit) -> list[str]:
    """The words between spaces, or all characters (code points) but spaces."""
    return text.split() if unit == "word" else list("".join(text.split()))


def unit_of_all(units: Iterable[str]) -> str:
    """The unit of a set of rows: "mixed" if they differ, "word" if there are none."""
    found = set(units)
    return found.pop() if len(found) == 1 else "mixed" if found else "word"


def _mostly(text: str, scripts: tuple[str, ...]) -> bool:
    if text.isascii() and "LATIN" not in scripts:
        return False
    letters = [c for c in unicodedata.normalize("NFKC", text) if c.isalpha()]
    return 2 * sum(unicodedata.name(c, "").startswith(scripts) for c in letters) > len(letters)
