"""A batch of clips to transcripts that the guards let pass: tried at rising temperatures where they do not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sottovoce.recognition.guards import LOOP, TEMPERATURES, better, faults, mean_log_probability
from sottovoce.recognition.loops import places_without_loops
from sottovoce.recognition.sampling import Ask, Found
from sottovoce.recognition.searches import Search


@dataclass(frozen=True)
class Try:
    """What was found of a clip in the end, and the guards that it took to get there."""

    found: Found
    guards: tuple[str, ...] = ()


def best_tries(search: Search, clips: Sequence[np.ndarray], ask: Ask, guarded: bool) -> list[Try]:
    """Of each clip (samples,) what the search writes, again at higher temperatures where a guard is set off."""
    features = [search.frontend.features(clip) for clip in clips]
    seconds = [len(clip) / search.frontend.sampling_rate for clip in clips]
    drafted = None if search.draft is None else search.draft.features(clips)
    tries = [Try(found) for found in search.run(features, ask, drafted)]
    if not guarded or search.rules.by_frames:  # frames follow from the audio alone: what they repeat was said
        return tries
    wanting = {i: named for i, each in enumerate(tries) if (named := _faults(search, each.found, seconds[i]))}
    for temperature in TEMPERATURES[1:] if search.samples else ():
        if not wanting:
            break
        again = search.run([features[i] for i in wanting], replace(ask, temperature=temperature))
        left = {}
        for (i, named), found in zip(wanting.items(), again, strict=True):
            own, new = tries[i], _faults(search, found, seconds[i])
            kept = better(own.found, found) if new else found
            tries[i] = Try(kept, tuple(dict.fromkeys((*own.guards, *named))))
            if new:
                left[i] = new if kept is found else named
        wanting = left
    return [_cut(each, ask) for each in tries]


def _faults(search: Search, found: Found, seconds: float) -> list[str]:
    return faults(found, search.frontend.text(found.tokens), seconds)


def _cut(each: Try, ask: Ask) -> Try:
    """A loop that no try avoided is cut to three rounds; the times around what went stay, with nothing between them."""
    tokens = each.found.tokens
    words = [place for place, token in enumerate(tokens) if ask.is_word(token)]
    stay = places_without_loops([tokens[place] for place in words])
    if len(stay) == len(words):
        return each
    gone = set(words) - {words[place] for place in stay}
    kept = tuple(token for place, token in enumerate(tokens) if place not in gone)
    mean = mean_log_probability(each.found)  # stays that of what was found
    total = None if mean is None else mean * (len(kept) + 1)
    cut = replace(each.found, tokens=kept, log_probability=total)
    return Try(cut, tuple(dict.fromkeys((*each.guards, LOOP))))
