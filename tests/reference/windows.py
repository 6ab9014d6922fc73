"""Windows the slow and obvious way: all spans and all samples are there before the first window is made."""

import numpy as np

Span = tuple[int, int]


def windows(spans: list[Span], samples: np.ndarray, rate: int, most: int, least: int) -> list[list[Span]]:
    """The spans of each window, those cut that are longer than `most` samples; spans 2 s apart share none."""
    found = []
    spans = list(spans)
    while spans:
        first = spans[0][0]
        if spans[0][1] - first > most:
            cut = quietest(samples, first + round(0.8 * most), first + most - least, rate)
            found.append([(first, cut)])
            spans[0] = (cut, spans[0][1])
            continue
        near = 1
        while near < len(spans) and spans[near][0] - spans[near - 1][1] <= 2 * rate:
            near += 1
        fit = sum(end - first <= most for _, end in spans[:near])
        count = fit
        if fit < near:
            for earlier in range(fit, 0, -1):
                late = spans[earlier - 1][1] - first >= most * 2 / 3
                if late and pause(spans, earlier) > pause(spans, count):
                    count = earlier
        found.append(spans[:count])
        spans = spans[count:]
    return found


def pause(spans: list[Span], before: int) -> int:
    return spans[before][0] - spans[before - 1][1]


def quietest(samples: np.ndarray, begin: int, end: int, rate: int) -> int:
    """The middle of the quietest tenth of a second, looked for each hundredth; the last of several."""
    length, best, least = min(rate // 10, end - begin), begin, np.inf
    for at in range(begin, end - length + 1, rate // 100):
        power = float(np.square(samples[at : at + length], dtype=float).sum())
        if power <= least:
            best, least = at, power
    return best + length // 2
