"""Fewer tokens: what is written with those that stay, and what without those that went."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from sottovoce.models.bpe import BytePairs
from tests import toys
from tests.reference import bpe as slow

LETTERS = "abcd"
KINDS = {
    "whisper": toys.whisper_tokenizer(toys.WINDOW_SECONDS, english_only=False).backend_tokenizer,
    "moonshine": toys.moonshine_tokenizer().backend_tokenizer,
}
WORDS = st.lists(st.sampled_from([*toys.WORDS, *toys.MERGES, "é", "日本", "x1", "\n", "🙂"]), max_size=12)


def document_of(merges, fallback=True):
    """A tokenizer of four letters and all bytes, without a word about the blank."""
    tokens = [f"<0x{i:02X}>" for i in range(256)] if fallback else []
    tokens += [*LETTERS, *dict.fromkeys(a + b for a, b in merges)]
    model = {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}
    model |= {"byte_fallback": fallback, "fuse_unk": False, "unk_token": None, "dropout": None}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None, "ignore_merges": False}
    parts = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"))
    return {"version": "1.0", **parts, "added_tokens": [], "decoder": {"type": "ByteFallback"}, "model": model}


@st.composite
def lists_of_merges(draw):
    """Merges in any order, the same token by several ways, as those that were made of SentencePiece's pieces."""
    tokens = list(LETTERS)
    for _ in range(draw(st.integers(1, 8))):
        tokens.append(draw(st.sampled_from(tokens)) + draw(st.sampled_from(tokens)))
    tokens = list(dict.fromkeys(tokens))
    pairs = [(a, b) for a in tokens for b in tokens if a + b in tokens]
    return [list(pair) for pair in draw(st.permutations(pairs))]


@settings(max_examples=200, deadline=None)
@given(lists_of_merges(), st.text(LETTERS, max_size=14), st.data())
def test_a_text_whose_tokens_all_stay_is_written_as_before_and_others_with_smaller_ones(merges, text, data):
    document = document_of(merges)
    pairs, before = BytePairs("toy", document), Tokenizer.from_str(json.dumps(document))
    written = {number: token for token, number in pairs.numbers.items()}
    kept = set(pairs.letters)
    for token in data.draw(st.lists(st.sampled_from(sorted(pairs.numbers)), max_size=4)):
        kept |= pairs.way(token) or {pairs.numbers[token]}
    now = {number: place for place, number in enumerate(sorted(kept))}
    cut = pairs.cut(now)
    after = Tokenizer.from_str(json.dumps(cut))
    old, new = before.encode(text).ids, after.encode(text).ids
    assert before.decode(old) == after.decode(new) == text
    if kept >= set(old):
        assert new == [now[number] for number in old]
    tokens = {written[number] for number in kept}
    assert [tuple(pair) for pair in cut["model"]["merges"]] == slow.left([tuple(pair) for pair in merges], tokens)
    assert after.encode(text).tokens == slow.tokens_of(text, slow.left([tuple(pair) for pair in merges], tokens))


@settings(max_examples=100, deadline=None)
@given(lists_of_merges())
def test_the_way_to_a_token_is_all_that_is_there_while_it_is_made(merges):
    pairs = BytePairs("toy", document_of(merges))
    plain = [tuple(pair) for pair in merges]
    for token in (token for token in pairs.numbers if set(token) <= set(LETTERS)):
        expected = slow.reached_by(token, plain)
        found = pairs.way(token)
        assert found == (None if expected is None else {pairs.numbers[piece] for piece in expected})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(words=WORDS, seed=st.integers(0, 2**20))
def test_a_tokenizer_as_models_ship_it_does_the_same(kind, words, seed):
    before = KINDS[kind]
    pairs = BytePairs("toy", json.loads(before.to_str()))
    added = set(before.get_added_tokens_decoder())
    kept = {*pairs.letters, *added}
    for i, token in enumerate(sorted(pairs.numbers)):
        if (seed >> i % 20) & 1:
            kept |= pairs.way(token) or set()
    now = {number: place for place, number in enumerate(sorted(kept))}
    after = Tokenizer.from_str(json.dumps(pairs.cut(now)))
    text = " ".join(words)
    old = before.encode(text, add_special_tokens=False).ids
    new = after.encode(text, add_special_tokens=False).ids
    assert before.decode(old) == after.decode(new)
    if kept >= set(old):
        assert new == [now[number] for number in old]
    assert after.get_vocab_size() == len(kept)
    assert after.encode("").tokens == before.encode("").tokens  # what is put around every text, by its new number
    assert after.encode("").ids == [now[number] for number in before.encode("").ids]


def test_common_tokens_are_those_of_early_merges():
    pairs = BytePairs("toy", document_of([["a", "b"], ["c", "d"], ["ab", "c"], ["a", "bc"]]))
    assert [pairs.numbers[token] for token in ("ab", "cd", "abc")] == pairs.by_rank()[:3]


def test_older_files_write_a_merge_as_one_string():
    document = document_of([["a", "b"], ["ab", "c"]])
    document["model"]["merges"] = ["a b", "ab c"]
    pairs = BytePairs("toy", document)
    assert pairs.merges == [("a", "b"), ("ab", "c")]
    kept = {*pairs.letters, pairs.numbers["ab"]}
    assert pairs.cut({number: i for i, number in enumerate(sorted(kept))})["model"]["merges"] == ["a b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "type Unigram, whose tokens cannot be cut"),
        ({"model": {"type": "BPE", "continuing_subword_prefix": "##"}}, "without prefixes and suffixes would work"),
        ({"model": {"type": "BPE", "byte_fallback": False}}, "without tokens for bytes"),
        ({"post_processor": {"type": "RobertaProcessing"}}, "a tokenizer with RobertaProcessing"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(change, message):
    document = {**document_of([["a", "b"]]), **change}
    with pytest.raises(ValueError, match=message):
        BytePairs("toy", document)
