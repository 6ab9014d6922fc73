"""The search of long recordings: greedy search at temperature 0, with probabilities, times, loops and drawing."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sottovoce.recognition.greedy import greedy, prompts
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.sampling import Ask, sample
from sottovoce.recognition.searches import Search
from sottovoce.recognition.target import find_target
from tests.recognition.heard import (
    BEFORE,
    END,
    ENGLISH,
    GERMAN,
    MARKS,
    NONE,
    RULES,
    SILENT,
    START,
    Heard,
    Scripted,
    scores,
)
from tests.recognition.test_beam import CASES, Drawn, Rows, rules
from tests.reference import loops as slow_loops
from tests.reference.sampling import likeliest, log_probability
from tests.reference.time_rules import allowed

TIMES = range(MARKS.first, MARKS.last + 1)
WITH_TIMES = MARKS.asked(RULES)


def looks_alike(found, decoded):
    assert [(one.prompt, one.tokens, one.capped) for one in found] == [
        (one.prompt, one.tokens, one.capped) for one in decoded
    ]


@pytest.mark.parametrize("case", CASES)
def test_at_temperature_0_it_says_what_greedy_search_says(case):
    asked = rules(**CASES[case])
    for seed in range(12):
        clips = Rows(list(range(5)))
        looks_alike(sample(Drawn(seed), clips, asked, Ask(watch_loops=False)), greedy(Drawn(seed), clips, asked))


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_a_toy_says_what_its_greedy_search_says(name, toy, clips):
    heard = Recognizer.of(find_target(toy(name)).open()[0])
    features = [clip.features for clip in clips(name)]
    search = Search(heard.frontend, heard.engine, heard.rules)
    found = search.run(features, Ask(watch_loops=False))
    looks_alike(found, heard.decode(features))
    assert all(one.no_speech is None and one.log_probability < 0 for one in found)


def may(marks, asked):
    """The tokens among which one is chosen, as the slow rules say it."""

    def among(said, given):
        never = {*asked.suppressed, *(() if said else asked.suppressed_first)}
        known = [float("-inf") if token in never else score for token, score in enumerate(given)]
        if marks is None:
            return [token for token in range(len(given)) if token not in never]
        latest = marks.first + round(1 / marks.seconds)
        return [token for token in allowed(known, said, TIMES, latest, END) if token not in never]

    return among


@pytest.mark.parametrize("marks", [None, MARKS], ids=["no times", "times"])
def test_its_log_probability_is_the_sum_over_the_steps(marks):
    asked = WITH_TIMES if marks else RULES
    prompt, ways = asked.prompt, Counter()
    for seed in range(40):
        found = sample(Heard(seed), Rows([0, 1, 2]), asked, Ask(marks=marks))
        for clip, one in enumerate(found):

            def loops(said):
                words = [token for token in said if marks is None or token not in TIMES]
                return bool(slow_loops.loop_at_end(slow_loops.written(words)))

            tokens, total, way = likeliest(
                lambda said, s=seed, c=clip: scores(s, c, (*prompt, *said)).tolist(),
                may(marks, asked),
                loops,
                asked.end,
                asked.most_tokens,
            )
            assert (one.prompt, one.tokens) == (prompt, tokens)
            assert one.log_probability == pytest.approx(total, abs=1e-4)
            assert (one.looped, one.capped) == (way == "looped", way == "capped")
            ways[way] += 1
    assert {"ended", "capped"} <= ways.keys()


def test_a_drawn_text_has_the_probability_that_the_model_gives_it_undrawn():
    among = may(None, RULES)
    for clip, one in enumerate(sample(Heard(3), Rows([0, 1, 2, 3]), RULES, Ask(temperature=0.9, seed=5))):
        said, total = (one.tokens if one.capped else (*one.tokens, END)), 0.0
        for place, token in enumerate(said):
            given = scores(3, clip, (*RULES.prompt, *said[:place])).tolist()
            total += log_probability(given, among(said[:place], given), token)
        assert one.log_probability == pytest.approx(total, abs=1e-4)
        assert one.temperature == 0.9


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_drawing_follows_the_softmax_at_its_temperature(temperature):
    once, counted, draws = replace(RULES, most_tokens=1), Counter(), 2000
    for seed in range(draws):
        [one] = sample(Heard(1), Rows([0]), once, Ask(temperature=temperature, seed=seed))
        counted[one.tokens[0] if one.tokens else END] += 1
    given = scores(1, 0, RULES.prompt) / temperature
    among = may(None, RULES)((), given.tolist())
    expected = {token: draws * np.exp(log_probability(given.tolist(), among, token)) for token in among}
    assert counted.keys() <= expected.keys()
    common = [token for token in among if expected[token] >= 5]
    distance = sum((counted[token] - expected[token]) ** 2 / expected[token] for token in common)
    assert len(common) > 3
    assert distance < len(common) + 4 * (2 * len(common)) ** 0.5  # four standard deviations of chi-square


@pytest.mark.parametrize("marks", [None, MARKS], ids=["no times", "times"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_what_a_clip_says_does_not_hang_on_the_clips_beside_it(marks, temperature):
    """False before where tokens are drawn: all rows of a batch shared one generator."""
    asked, ask = (WITH_TIMES if marks else RULES), Ask(marks=marks, temperature=temperature)
    for seed in range(6):
        together = sample(Heard(seed), Rows([0, 1, 2, 3, 4]), asked, ask)
        assert together == [sample(Heard(seed), Rows([clip]), asked, ask)[0] for clip in range(5)]


def test_rows_that_have_ended_leave_the_batch():
    scripts = [[1], [1, 2], [1, 2, 3, 4, 5, 6], [2], [3, 4, 5], [4]]
    engine = Scripted(scripts)
    found = sample(engine, Rows(list(range(6))), RULES, Ask())
    assert [list(one.tokens) for one in found] == scripts
    lengths = [len(script) + 1 for script in scripts]
    assert len(engine.rows) == max(lengths)
    for step, fed in enumerate(engine.rows):
        going = sum(length > step for length in lengths)
        assert going <= fed < 2 * going + (step == 0) * 6


def test_a_loop_stops_a_row_and_no_other():
    long = replace(RULES, most_tokens=40)
    scripts = [[1] * 30, [1, 2, 3] * 9, [1] * 7, [1, 2, 3, 4, 5, 6, 7, 0] * 3]
    found = sample(Scripted(scripts), Rows([0, 1, 2, 3]), long, Ask())
    assert [one.tokens for one in found] == [(1,) * 8, (1, 2, 3) * 4, (1,) * 7, tuple(scripts[3])]
    assert [one.looped for one in found] == [True, True, False, False]
    assert not any(one.capped for one in found)
    free = sample(Scripted(scripts), Rows([0, 1, 2, 3]), long, Ask(watch_loops=False))
    assert [list(one.tokens) for one in free] == scripts


def test_a_loop_is_noticed_through_the_times_within_it():
    first = MARKS.first
    script = [first, 1, 2, first + 1, first + 1, 1, 2, first + 2, first + 2, 1, 2, first + 3, first + 3, 1, 2]
    [one] = sample(Scripted([script], prompt=2), Rows([0]), replace(WITH_TIMES, most_tokens=40), Ask(marks=MARKS))
    assert (one.looped, one.tokens) == (True, tuple(script))


def test_no_speech_is_the_probability_where_the_transcript_starts():
    for seed in range(5):
        ask = Ask(before=(BEFORE, 3, 4), marks=MARKS)
        for clip, one in enumerate(sample(Heard(seed), Rows([0, 1]), WITH_TIMES, ask)):
            given = np.exp(scores(seed, clip, (BEFORE, 3, 4, START)).astype(np.float64))
            assert one.no_speech == pytest.approx(given[SILENT] / given.sum(), rel=1e-4)
            assert one.prompt == (START, ENGLISH)
    assert all(one.no_speech is None for one in sample(Heard(0), Rows([0]), RULES, Ask()))


def test_a_prompt_that_is_its_first_token_alone_is_fed_once():
    """As an English-only Whisper's without the token that says that no times follow."""
    engine = Heard(0)
    [one] = sample(engine, Rows([0]), replace(WITH_TIMES, prompt=(START,), most_tokens=1), Ask(marks=MARKS))
    assert one.prompt == (START,)
    assert one.no_speech > 0
    assert len(engine.rows) == 1


@pytest.mark.parametrize("marks", [None, MARKS], ids=["no times", "times"])
def test_a_language_is_detected_as_by_greedy_search(marks):
    spoken = set()
    open_rules = replace(RULES, prompt=(START, None, NONE), languages=(GERMAN, ENGLISH))
    asked = marks.asked(open_rules) if marks else open_rules
    for seed in range(8):
        found = sample(Heard(seed), Rows([0, 1, 2]), asked, Ask(marks=marks))
        assert [list(one.prompt) for one in found] == prompts(Heard(seed), Rows([0, 1, 2]), asked).tolist()
        spoken |= {one.prompt[1] for one in found}
    assert spoken == {GERMAN, ENGLISH}
