from hypothesis import given
from hypothesis import strategies as st

from sottovoce.recognition.local_agreement import Agreed, common_prefix, goes_on, joined, words_of
from tests.reference import local_agreement as slow

TEXT = st.lists(st.sampled_from("abc"), max_size=8)


def after(texts):
    agreed = Agreed()
    for text in texts:
        agreed = agreed.with_update(text)
    return agreed


@given(TEXT, TEXT)
def test_a_common_prefix_is_that_of_word_after_word(one, other):
    assert one[: common_prefix(one, other)] == slow.common_prefix(one, other)


@given(st.lists(TEXT, max_size=8))
def test_what_is_certain_never_changes(texts):
    agreed = Agreed()
    for text in texts:
        later = agreed.with_update(text)
        assert later.committed[: len(agreed.committed)] == agreed.committed
        assert later.words[: len(later.committed)] == later.committed
        agreed = later


@given(st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=6))
def test_where_each_text_keeps_what_is_certain_that_is_the_longest_prefix_of_two_in_a_row(ends):
    texts, certain = [], []
    for end in ends:  # words that are all different, so that a text goes on where it did
        texts.append([*certain, *(f"{len(certain) + place}-{word}" for place, word in enumerate(end))])
        certain = slow.committed(texts)
    assert list(after(texts).committed) == certain
    assert list(after(texts).words) == texts[-1]


def test_two_updates_make_words_certain_and_one_does_not():
    assert after([["we", "all"]]).committed == ()
    agreed = after([["we", "all"], ["we", "all", "can"]])
    assert (agreed.committed, agreed.rest) == (("we", "all"), ("can",))


def test_a_text_that_lost_a_word_in_front_goes_on_behind_the_last_certain_ones():
    assert goes_on(("oh", "we", "all", "can"), ("we", "all", "can", "improve")) == 3
    assert goes_on(("we", "all"), ("he", "and", "we", "all", "can")) == 4


def test_of_several_places_it_is_the_nearest():
    assert goes_on(("no", "no", "no"), ("no", "no", "no", "no", "yes")) == 3


def test_a_text_without_the_last_certain_word_is_taken_to_have_as_many():
    assert goes_on(("a", "b"), ("x", "y", "z")) == 2
    assert goes_on(("a", "b"), ("x",)) == 1
    assert goes_on((), ("x",)) == 0


def test_words_that_were_not_heard_any_more_are_kept():
    agreed = Agreed(("one", "two", "three"), ("four",)).with_update(("three", "four", "five"), before=2)
    assert (agreed.committed, agreed.rest) == (("one", "two", "three", "four"), ("five",))


def test_letters_are_words_where_no_spaces_are_written():
    assert words_of("你好", "zh") == ("你", "好")
    assert joined(words_of("你好", "zh"), "zh") == "你好"
    assert joined(words_of("we all", None), "en") == "we all"
