"""The names of languages as corpora write them ("zh-CN", "German", "<|de|>"), and as Whisper does ("zh", "de")."""

import re

_CODE = re.compile(r"([a-z]{2,3})([-_].*)?", re.DOTALL)
# what corpora write, where Whisper and most of them write another code for the same language
_SAME = {
    "cmn": "zh", "eng": "en", "fil": "tl", "in": "id", "iw": "he", "ji": "yi", "jv": "jw", "lao": "lo", "nb": "no",
}  # fmt: skip


def language_code(text: str) -> str:
    """The code of a language: "zh" for "zh-CN", "zh_TW" and "Chinese"; what is no code and no name, in lower case."""
    word = text.strip().strip("<|>").lower()
    if code := _CODE.fullmatch(word):
        return _SAME.get(code[1], code[1])
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    return str(TO_LANGUAGE_CODE.get(word, word))


def checked_code(text: str) -> str:
    """The same. Raises ValueError for what is no code and no name of a language."""
    code = language_code(text)
    if not _CODE.fullmatch(code):
        raise ValueError(
            f"unknown language {text!r}; a code such as de or zh-CN, or an English name such as german, would work"
        )
    return code
