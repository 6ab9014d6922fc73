"""The search that fits an engine: token by token, beams, a runtime's own, frame by frame."""

from dataclasses import replace

import numpy as np
import pytest

from sottovoce.models.decoding import Decoded
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.sampling import Ask, Found, sample
from sottovoce.recognition.searches import Search
from sottovoce.recognition.target import find_target
from sottovoce.targets.engine import WholeEngine
from tests.conftest import FRAMES
from tests.recognition.heard import BEFORE, END, ENGLISH, MARKS, NONE, RULES, START, Heard, Scripted, scores
from tests.recognition.test_beam import Rows
from tests.recognition.test_sampling import TIMES, WITH_TIMES
from tests.reference.beam import beam as slow_beam
from tests.reference.time_rules import allowed, may_follow


def features(*clips):
    return [np.array([[clip]], np.float32) for clip in clips]


@pytest.mark.parametrize(
    ("name", "beam"), [*((name, 1) for name in ("whisper", "moonshine", *FRAMES)), ("whisper", 3), ("moonshine", 3)]
)
def test_without_times_it_finds_what_a_recognizer_finds(name, beam, toy, clips):
    heard = Recognizer.of(find_target(toy(name)).open()[0], beam=beam)
    given = [clip.features for clip in clips(name)]
    found = Search(heard.frontend, heard.engine, heard.rules, beam).run(given, Ask(watch_loops=False))
    expected = heard.decode(given)
    assert [(one.tokens, one.prompt, one.capped) for one in found] == [
        (one.tokens, one.prompt, one.capped) for one in expected
    ]
    if beam > 1:
        assert [one.log_probability for one in found] == pytest.approx([one.log_probability for one in expected])


class Whole(WholeEngine):
    """A runtime with a search of its own."""

    together = 2

    def __init__(self):
        self.asked = []

    def encode(self, features):
        return [int(one.flat[0]) for one in features]

    def decode(self, memory, rules):
        self.asked.append((len(memory), rules))
        return [Decoded(rules.prompt, (clip, clip), capped=clip == 2) for clip in memory]

    def outputs(self, memory):
        return {}

    def logits(self, prompt, tokens, memory):
        raise AssertionError("it gives no logits away")


def test_a_runtime_with_its_own_search_is_asked_without_times_and_tells_no_probability():
    engine = Whole()
    search = Search(None, engine, RULES)
    found = search.run(features(0, 1, 2), Ask(marks=MARKS))
    assert engine.asked == [(2, RULES), (1, RULES)]
    assert found == [Found(RULES.prompt, (clip, clip), None, None, capped=clip == 2) for clip in range(3)]
    assert not search.samples


def test_frames_cannot_be_drawn(toy):
    heard = Recognizer.of(find_target(toy("wav2vec2")).open()[0])
    assert not Search(heard.frontend, heard.engine, heard.rules).samples
    assert Search(None, Heard(0), RULES).samples


@pytest.mark.parametrize(("together", "beam", "most"), [(None, 1, 5), (2, 1, 2), (None, 2, 2), (1, 2, 1)])
def test_no_more_clips_than_the_engine_takes_go_together_and_a_beam_takes_the_room_of_one(together, beam, most):
    engine = Heard(0)
    engine.together = together
    found = Search(None, engine, RULES, beam).run(features(0, 1, 2, 3, 4), Ask(watch_loops=False))
    assert len(found) == 5
    assert max(engine.rows) <= most * beam
    assert engine.rows[0] == most
    alone = [Search(None, Heard(0), RULES, beam).run(features(clip), Ask(watch_loops=False))[0] for clip in range(5)]
    assert found == alone
    assert Search(None, engine, RULES).run([], Ask()) == []


@pytest.mark.parametrize("beam", [1, 2])
@pytest.mark.parametrize(("before", "room"), [((), 12), ((BEFORE, 1, 2), 9), ((BEFORE, *[1] * 20), 1)])
def test_what_was_said_before_takes_room_and_is_no_part_of_the_prompt(before, room, beam):
    search = Search(None, Scripted([[1, 2, 3, 4, 5, 6, 7] * 3], 2 + len(before)), RULES, beam)
    [one] = search.run(features(0), Ask(before=before, marks=None, watch_loops=False))
    assert one.prompt == RULES.prompt
    assert len(one.tokens) == room
    assert one.capped


def test_times_are_asked_for_by_leaving_out_the_token_that_says_that_none_follow():
    [one] = Search(None, Heard(0), RULES).run(features(0), Ask(marks=MARKS))
    assert one.prompt == (START, ENGLISH)
    assert NONE not in one.tokens
    assert one.tokens[0] in TIMES


@pytest.mark.parametrize("width", [2, 3])
def test_beams_with_times_are_those_of_the_slow_search_under_the_slow_rules(width):
    latest = MARKS.first + round(1 / MARKS.seconds)
    several = 0
    for seed in range(12):
        found = Search(None, Heard(seed), RULES, width).run(features(0, 1), Ask(marks=MARKS, watch_loops=False))
        for clip, one in enumerate(found):

            def log_probabilities(said, s=seed, c=clip):
                given = scores(s, c, (*WITH_TIMES.prompt, *said)).astype(np.float64)
                logs = given - np.log(np.exp(given).sum())
                logs[list(WITH_TIMES.suppressed)] = -np.inf
                stay = allowed(logs.tolist(), said, TIMES, latest, END)
                return [log if token in stay else -np.inf for token, log in enumerate(logs)]

            expected = slow_beam(log_probabilities, width, (END,), WITH_TIMES.most_tokens, WITH_TIMES.suppressed, ())
            assert one.capped == (expected[-1] != END)
            assert one.tokens == (expected if one.capped else expected[:-1])
            assert all(may_follow(one.tokens[:i], one.tokens[i], TIMES, latest, END) for i in range(len(one.tokens)))
            total = sum(log_probabilities(expected[:i])[token] for i, token in enumerate(expected))
            assert one.log_probability == pytest.approx(total, abs=1e-3)
            assert 0 < one.no_speech < 1
            several += len(one.tokens) > 2
    assert several


def test_above_temperature_0_beams_give_way_to_drawing():
    ask = Ask(marks=MARKS, temperature=0.7, seed=3)
    found = Search(None, Heard(2), RULES, 3).run(features(0), ask)
    assert found == sample(Heard(2), Rows([0]), WITH_TIMES, ask)


@pytest.mark.parametrize("watch", [True, False])
def test_a_loop_of_beams_is_noticed(watch):
    """False before: it was only cut, and never tried again."""
    scripts = [[1, 2] * 5, [1, 2] * 3]
    search = Search(None, Scripted(scripts), replace(RULES, most_tokens=40), 2)
    found = search.run(features(0, 1), Ask(watch_loops=watch))
    assert [list(one.tokens) for one in found] == scripts
    assert [one.looped for one in found] == [watch, False]
