import pytest

from sottovoce.speech.languages import checked_code, language_code


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("de", "de"), ("DE", "de"), (" de ", "de"), ("de-AT", "de"), ("de_DE", "de"), ("<|de|>", "de"),
        ("German", "de"), ("zh-CN", "zh"), ("zh-TW", "zh"), ("zh_Hans_CN", "zh"), ("cmn_hans_cn", "zh"),
        ("Mandarin", "zh"), ("Cantonese", "yue"), ("yue", "yue"), ("haw", "haw"), ("lao", "lo"), ("nb-NO", "no"),
        ("eng", "en"), ("haitian creole", "ht"), ("fy-NL", "fy"),
    ],
)  # fmt: skip
def test_a_language_has_one_code_however_corpora_write_it(written, code):
    assert language_code(written) == checked_code(written) == code


@pytest.mark.parametrize("written", ["klingon", "english (us)", "d", "unknown"])
def test_what_is_no_language_is_refused(written):
    with pytest.raises(ValueError, match=r"unknown language .*; a code such as de or zh-CN, or an English name"):
        checked_code(written)
