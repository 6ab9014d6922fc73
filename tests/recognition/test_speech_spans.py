"""silero_vad.npz has the spans that silero-vad 6.2.3 makes of the probabilities in `walk`, padded by 200 ms."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.recognition.speech_spans import PADDING, SpeechSpans
from sottovoce.recognition.voice import CHUNK
from tests.reference import speech_spans as slow

# Runs of one probability, so that pauses and sounds of every length are met.
RUNS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.3, 0.34, 0.35, 0.4, 0.49, 0.5, 0.9]), st.sampled_from([1, 2, 3, 5, 8, 9, 14, 70])
    ),
    max_size=30,
).map(lambda runs: [probability for probability, length in runs for _ in range(length)])
MISSING = st.integers(0, CHUNK - 1)  # samples of the last chunk


# two sounds: without some of its last samples the second is too short to be speech
TOO_SHORT = [0.5] * 8 + [0.0] * 5 + [0.5] * 8


def streamed(probabilities, samples, cuts=(), **options):
    """Whole chunks as they come; the last one, of fewer samples, when the recording ends."""
    spans, given_ = SpeechSpans(**options), []
    whole = samples // CHUNK
    places = [0, *sorted(cut % (whole + 1) for cut in cuts), whole]
    for begin, end in pairwise(places):
        given_ += spans.feed(probabilities[begin:end])
    return given_ + spans.finish(samples, probabilities[whole:])


@given(RUNS, MISSING, st.lists(st.integers(0, 3_000), max_size=5))
def test_the_spans_are_those_of_the_whole_array_wherever_it_is_cut(probabilities, missing, cuts):
    samples = max(CHUNK * len(probabilities) - missing, 0)
    assert streamed(probabilities, samples, cuts) == slow.spans(probabilities, samples)


@given(RUNS, MISSING)
def test_spans_follow_each_other_within_the_recording_and_are_never_empty(probabilities, missing):
    samples = max(CHUNK * len(probabilities) - missing, 0)
    edges = [edge for span in streamed(probabilities, samples) for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= edge <= samples for edge in edges)
    assert all(begin < end for begin, end in zip(edges[::2], edges[1::2], strict=True))


def test_a_sound_that_a_last_part_of_a_chunk_makes_too_short_takes_no_padding_from_the_one_before():
    """It was certain to be speech by the whole chunk, and its neighbour lost 120 ms to it."""
    samples = CHUNK * len(TOO_SHORT) - 96
    assert streamed(TOO_SHORT, samples) == slow.spans(TOO_SHORT, samples) == [(0, 8 * CHUNK + 3_200)]
    assert len(streamed(TOO_SHORT, samples + 1)) == 2


@given(RUNS)
def test_what_is_said_to_run_or_to_be_settled_comes_true(probabilities):
    samples = CHUNK * len(probabilities)
    spans, told, found = SpeechSpans(), [], []
    for probability in probabilities:
        found += spans.feed([probability])
        told.append((len(found), spans.running, spans.settled))
    found += spans.finish(samples)
    for number, running, settled in told:
        assert all(begin >= settled for begin, _ in found[number:])
        if running:
            assert any(begin == running[0] and end >= running[1] for begin, end in found)


@given(RUNS)
def test_little_is_undecided_at_any_time(probabilities):
    spans = SpeechSpans()
    for number, probability in enumerate(probabilities, start=1):
        spans.feed([probability])
        decided = spans.running[1] if spans.running else spans.settled
        ended = max(decided, spans._before[1] if spans._before else 0)
        assert CHUNK * number - ended <= 32_000 + 4_000 + 6_400 + 2 * CHUNK


def test_a_span_is_given_as_soon_as_no_other_can_be_near():
    spans = SpeechSpans()
    assert spans.feed([0.9] * 20 + [0.0] * 12) == []
    assert spans.feed([0.0]) == [(0, 20 * CHUNK + 3_200)]  # 13 chunks are more than twice 200 ms


@pytest.mark.parametrize("gap", [5, 12, 13, 20])
def test_padding_meets_in_the_middle_of_a_short_pause(gap):
    probabilities = [0.9] * 20 + [0.0] * gap + [0.9] * 20
    (_, end), (begin, _) = streamed(probabilities, CHUNK * len(probabilities))
    assert begin - end == max(0, gap * CHUNK - 6_400)


def test_the_spans_are_those_of_the_official_code():
    file = np.load(Path(__file__).parent / "silero_vad.npz")
    walk = file["walk"].astype(float).tolist()
    assert streamed(walk, CHUNK * len(walk)) == [tuple(span) for span in file["spans"].tolist()]


@given(RUNS, MISSING)
def test_less_padding_behind_moves_ends_alone(probabilities, missing):
    samples = max(0, CHUNK * len(probabilities) - missing)
    usual, tight = (streamed(probabilities, samples, behind=behind) for behind in (PADDING, 1_600))
    assert [begin for begin, _ in usual] == [begin for begin, _ in tight]
    assert all(0 <= one - other <= 1_600 for (_, one), (_, other) in zip(usual, tight, strict=True))
