import time

import pytest

from sottovoce.cli.shortened import MOST, shortened


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("the day the man had", "the day the man had"),
        ("no no no", "no no no"),
        ("said " * 446, "said ... (x 446)"),
        ("he ran " + "so " * 5 + "done", "he ran so ... (x 5) done"),
        ("thank you very much. " * 60 + "Thank you", "thank you very much. ... (x 60) Thank you"),
        ("ha ha ha ha ho ho ho ho", "ha ... (x 4) ho ... (x 4)"),
        ("は" * 446, "は ... (x 446)"),
        ("ありがとう" * 100 + "。", "ありがとう ... (x 100)。"),
    ],
)
def test_a_loop_is_told_once_with_its_count(text, told):
    assert shortened(text) == told


def test_a_long_text_is_cut_and_says_how_much_is_missing():
    text = " ".join(str(number) for number in range(1000))
    told = shortened(text)
    assert told.startswith(text[: MOST - 1])
    assert told.endswith(f" ... ({len(text) - MOST:,} more characters)")
    assert shortened(text[:MOST]) == text[:MOST]


def test_ten_thousand_words_take_no_time():
    started = time.process_time()
    shortened("ab ac " * 5000 + "x" * 30_000)
    assert time.process_time() - started < 2
