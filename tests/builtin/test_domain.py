"""The grammar of the built-in corpus."""

from itertools import islice

from builtin.domain import LETTERS, LONGEST, NAMES, RULES, SHORTEST, SLOT, VOCABULARY, part, sentences

SOME = list(islice(sentences(7), 5000))


def test_sentences_say_only_words_of_the_vocabulary_and_all_of_them():
    assert {word for text in SOME for word in text.split()} == set(VOCABULARY)


def test_a_seed_names_its_sentences():
    assert list(islice(sentences(7), 100)) == SOME[:100]
    assert list(islice(sentences(8), 100)) != SOME[:100]


def test_sentences_are_plain_words_of_the_promised_length():
    for text in SOME:
        assert all(word.isalpha() and word.islower() for word in text.split(" "))
        assert SHORTEST <= len(text.split()) <= LONGEST


def test_every_slot_names_a_rule():
    assert {slot for forms in RULES.values() for form in forms for slot in SLOT.findall(form)} <= RULES.keys()


def test_letters_are_those_of_the_names_and_follow_their_name():
    assert set(LETTERS) == set("".join(NAMES))
    for text in SOME:
        before, spelled, after = text.partition(" spelled ")
        if spelled:
            name = before.split()[-1]
            assert after.split()[: len(name)] == list(name)
        else:
            assert not set(text.split()) & (set(LETTERS) - {"i"})


def test_a_tenth_of_the_texts_is_for_the_test_by_their_hash_alone():
    parts = [part(text) for text in sorted(set(SOME))]
    assert set(parts) == {"test", "shipped", "corpus"}
    for name in ("test", "shipped"):
        assert 0.08 < parts.count(name) / len(parts) < 0.12
    assert part("thank you kim clear work") == part("thank you kim clear work")
