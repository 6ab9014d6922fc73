"""Trying again at rising temperatures, and what is kept in the end."""

import numpy as np
import pytest

from sottovoce.recognition.guards import LOOP, TEMPERATURES, UNLIKELY, mean_log_probability
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.searches import Search
from sottovoce.recognition.target import find_target
from sottovoce.recognition.tries import best_tries
from tests.recognition.fakes import MARKS, found, t, told
from tests.recognition.test_searches import Whole

CLIPS = [np.full(100, number, np.float32) for number in range(3)]


def ladder(*rows):
    """A search in which clip i says rows[i][n] at the n-th temperature."""

    def says(clip, ask):
        place = TEMPERATURES.index(ask.temperature)
        means = rows[int(clip[0])]
        return found(1, place, mean=means[place], temperature=ask.temperature)

    return told(says)


def test_it_stops_at_the_first_try_that_passes_and_only_those_that_fail_are_tried():
    search = ladder([-0.1], [-1.5, -1.2, -0.9], [-2.0, -0.5])
    tries = best_tries(search, CLIPS, Ask(), guarded=True)
    assert [(len(clips), ask.temperature) for clips, ask, _ in search.asked] == [(3, 0.0), (2, 0.2), (1, 0.4)]
    assert [one.found.temperature for one in tries] == [0.0, 0.4, 0.2]
    assert [one.guards for one in tries] == [(), (UNLIKELY,), (UNLIKELY,)]


def test_the_last_words_of_an_ask_are_kept_through_all_tries():
    search = ladder([-2.0, -2.0, -0.1])
    best_tries(search, CLIPS[:1], Ask(before=(96, 5), marks=MARKS, seed=4), guarded=True)
    assert {(ask.before, ask.marks, ask.seed) for _, ask, _ in search.asked} == {((96, 5), MARKS, 4)}


def test_where_all_tries_fail_the_best_is_kept():
    means = [-1.5, -1.9, -1.2, -3.0, -1.3, -2.0]
    search = ladder(means)
    [one] = best_tries(search, CLIPS[:1], Ask(), guarded=True)
    assert len(search.asked) == len(TEMPERATURES)
    assert one.found.temperature == TEMPERATURES[means.index(-1.2)]
    assert one.guards == (UNLIKELY,)


def test_a_try_that_loops_is_no_better_however_likely():
    def says(clip, ask):
        looping = ask.temperature != 0.6
        return found(1, 2, mean=-0.1 if looping else -1.8, looped=looping, temperature=ask.temperature)

    [one] = best_tries(told(says), CLIPS[:1], Ask(), guarded=True)
    assert one.found.temperature == 0.6
    assert one.guards == (LOOP, UNLIKELY)


def test_without_guards_each_clip_is_tried_once_and_nothing_is_cut():
    search = told(lambda clip, ask: found(*[1] * 20, mean=-3.0, capped=True))
    tries = best_tries(search, CLIPS, Ask(watch_loops=False), guarded=False)
    assert len(search.asked) == 1
    assert [(len(one.found.tokens), one.guards) for one in tries] == [(20, ())] * 3


def test_an_engine_that_cannot_draw_is_tried_once_and_its_loops_are_cut():
    search = told(lambda clip, ask: found(*[1, 2] * 9, mean=-3.0, capped=True), engine=Whole())
    tries = best_tries(search, CLIPS, Ask(), guarded=True)
    assert len(search.asked) == 1
    assert [(one.found.tokens, one.guards) for one in tries] == [((1, 2) * 3, (LOOP,))] * 3


def test_a_loop_that_no_try_avoided_is_cut_and_its_times_stay():
    script = (t(0), 1, 2, 1, 2, 1, 2, t(2), t(2), 1, 2, 1, 2, 3, t(4))
    search = told(lambda clip, ask: found(*script, looped=True, temperature=ask.temperature))
    [one] = best_tries(search, CLIPS[:1], Ask(marks=MARKS), guarded=True)
    assert one.found.tokens == (t(0), 1, 2, 1, 2, 1, 2, t(2), t(2), 3, t(4))
    assert one.guards == (LOOP,)


@pytest.mark.parametrize("mean", [-0.2, -0.9])
def test_what_is_left_of_a_loop_is_as_likely_as_the_loop_was(mean):
    """False before: the sum over all tokens was divided by the few that stayed, so text looked guessed."""
    search = told(lambda clip, ask: found(*[1] * 8, mean=mean, looped=True))
    [one] = best_tries(search, CLIPS[:1], Ask(), guarded=True)
    assert one.found.tokens == (1, 1, 1)
    assert mean_log_probability(one.found) == pytest.approx(mean)


def test_what_frames_repeat_is_not_cut(toy):
    """False before: a CTC model's tokens are characters, and of "no no no no" three were left."""
    heard = Recognizer.of(find_target(toy("wav2vec2")).open()[0])

    class Frames:
        together = None

        def encode(self, features):
            return features

        def frame_logits(self, memory):
            blank = heard.rules.blank
            path = [token for token in heard.frontend.text_tokens("no no no no no") for token in (token, blank)]
            return [np.eye(heard.frontend.vocabulary, dtype=np.float32)[path] for _ in memory]

        def outputs(self, memory):
            return {}

    search = Search(heard.frontend, Frames(), heard.rules)
    [one] = best_tries(search, [np.ones(16_000, np.float32)], Ask(), guarded=True)
    assert heard.frontend.text(one.found.tokens) == "no no no no no"
    assert one.guards == ()
