"""Words: how tokens are divided, where words may lie, and that the toys' words keep their text and their order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sottovoce
from sottovoce.recognition.pieces import pieces
from sottovoce.recognition.window import Window
from sottovoce.recognition.words import Timed, frame_times, held
from sottovoce.speech import audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.targets.engine import Attentive


def spelled(*parts):
    """Tokens that write these parts one behind another, and how a frontend writes the first ones of them."""
    return list(range(len(parts))), lambda tokens: "".join(parts[token] for token in tokens).strip()


@pytest.mark.parametrize(
    ("parts", "language", "words"),
    [
        ([" He", "llo", ",", " wor", "ld", "."], "en", ["Hello,", "world."]),
        ([" (", "yes", ")", " no"], "en", ["(yes)", "no"]),
        ([" It", "'s", " 3", ".", "5", " %"], "en", ["It's", "3.5", "%"]),
        (
            ["\u4f60", "\u597d", "\uff0c", "\u4e16\u754c", "\u3002"],
            "zh",
            ["\u4f60", "\u597d\uff0c", "\u4e16\u754c\u3002"],
        ),
        (["one"], None, ["one"]),
        ([], "en", []),
    ],
)
def test_words_begin_at_spaces_or_at_each_piece_where_none_are_written(parts, language, words):
    tokens, text = spelled(*parts)
    found = pieces(tokens, text, language)
    assert [each.text for each in found] == words
    assert [each.first for each in found[1:]] == [each.last for each in found[:-1]]
    assert not found or (found[0].first, found[-1].last) == (0, len(tokens))


def test_a_letter_of_several_tokens_is_not_divided():
    text = {0: "", 1: " \ufffd", 2: " \ufffd", 3: " \u8a9e", 4: " \u8a9e!"}
    found = pieces([7, 8, 9, 10], lambda tokens: text[len(tokens)].strip(), "ja")
    assert [(each.text, each.first, each.last) for each in found] == [("\u8a9e!", 0, 4)]


moments = st.integers(0, 100).map(lambda value: value / 10)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b.", "c,"]), moments, moments), max_size=8),
    st.lists(st.tuples(moments, moments).map(sorted).map(tuple), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_words_are_in_order_within_the_window_and_never_overlap(words, speech):
    window = Window.of(2.0, np.zeros(16_000 * 6, np.float32), 16_000, [(2.0, 8.0)])
    timed = [Timed(text, *sorted(times)) for text, *times in words]
    found = held(timed, window, sorted(speech), 2.0)
    assert len(found) == len(words)
    clock = 2.0
    for start, end in found:
        assert clock <= start <= end <= 8.0
        clock = end


def test_a_word_that_reaches_over_a_pause_is_said_on_its_own_side_of_it():
    window = Window.of(0.0, np.zeros(160_000, np.float32), 16_000, [(0.0, 10.0)])
    speech = [(0.0, 2.0), (4.0, 9.0)]
    words = [Timed("end.", 1.5, 4.2), Timed("Then", 4.2, 5.0), Timed("it", 5.0, 5.5)]
    assert held(words, window, speech, 0.0) == [(1.5, 2.0), (4.2, 5.0), (5.0, 5.5)]
    words = [Timed("end.", 1.5, 1.8), Timed("Then", 1.8, 4.5), Timed("it", 4.5, 5.5)]
    assert held(words, window, speech, 0.0) == [(1.5, 1.8), (4.0, 4.5), (4.5, 5.5)]
    words = [Timed("no", 1.0, 1.9), Timed("pause", 1.9, 4.9), Timed("here", 4.9, 5.5)]
    assert held(words, window, speech, 0.0) == [(1.0, 1.9), (4.0, 4.9), (4.9, 5.5)]


def test_frames_tell_when_a_token_was_said():
    assert frame_times([0, 3, 3, 0, 3, 5, 0], 0, 0.5) == [(0.5, 1.5), (2.0, 2.5), (2.5, 3.0)]


@pytest.mark.parametrize("model", ["builtin:whisper", "builtin:moonshine", "wav2vec2"])
def test_words_are_the_text_of_their_segment_in_order(model, toy):
    clip = audio.read(read_corpus("builtin:test").utterances[3].audio)
    recognizer = sottovoce.load(toy(model) if model == "wav2vec2" else model)
    clock = 0.0
    for segment in recognizer.transcribe(clip, words=True, vad=False).segments:
        assert " ".join(word.text for word in segment.words).split() == segment.text.split()
        for word in segment.words:
            assert clock <= word.start <= word.end <= len(clip) / 16_000
            clock = word.end


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_attention_is_that_which_transformers_computes(name, toy):
    recognizer = sottovoce.load(toy(name))
    engine = recognizer.engine
    assert isinstance(engine, Attentive)
    clip = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    features, tokens = recognizer.frontend.features(clip), [1, 5, 9, 4]
    other = recognizer.frontend.features(clip[:12_000])
    seen = engine.attention(engine.encode([other, features]), 1, tokens)
    module = engine.model.module
    module.set_attn_implementation("eager")
    import torch

    key = "input_values" if name == "moonshine" else "input_features"
    told = module(**{key: torch.tensor(features)}, decoder_input_ids=torch.tensor([tokens]), output_attentions=True)
    assert len(seen) == len(told.cross_attentions)
    for ours, theirs in zip(seen, told.cross_attentions, strict=True):
        frames = theirs.shape[-1]
        assert ours.shape[:2] == tuple(theirs[0].shape[:2])
        assert not ours[..., frames:].any()
        ours = ours[..., :frames]
        assert np.abs(ours - theirs[0].detach().numpy()).max() < 1e-5
        assert ours.sum(-1) == pytest.approx(1, abs=1e-5)
