"""Slow readers of what transcripts are written as, by the rules of each format and nothing of sottovoce."""

import re

_CLOCK = r"(\d{2,}):([0-5]\d):([0-5]\d)%s(\d{3})"


def read_srt(text):
    """(start, end, lines) of each cue, times in milliseconds."""
    blocks = text.split("\n\n") if text else []
    found = []
    for number, block in enumerate(blocks, start=1):
        index, times, *lines = block.removesuffix("\n").split("\n")
        assert index == str(number)
        found.append((*_times(times, ","), lines))
    return found


def read_vtt(text):
    """(start, end, lines, times of words) of each cue, tags and escapes taken out of the lines."""
    header, *blocks = text.split("\n\n")
    assert header.strip("\n") == "WEBVTT"
    found = []
    for block in blocks:
        if not block.strip("\n"):
            continue
        times, *lines = block.removesuffix("\n").split("\n")
        assert not any("-->" in line for line in lines)
        start, end = _times(times, ".")
        tags = [_milliseconds(*match) for match in re.findall(f"<{_CLOCK % '[.]'}>", "\n".join(lines))]
        assert [start, *tags, end] == sorted({start, *tags, end})
        bare = [re.sub(f"<{_CLOCK % '[.]'}>", "", line) for line in lines]
        assert not any("<" in line or ">" in line for line in bare)
        plain = [line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for line in bare]
        found.append((start, end, plain, tags))
    return found


def read_tsv(text):
    """A dictionary for each row."""
    head, *rows = text.removesuffix("\n").split("\n")
    return [dict(zip(head.split("\t"), row.split("\t"), strict=True)) for row in rows]


def _times(line, point):
    match = re.fullmatch(f"{_CLOCK} --> {_CLOCK}".replace("%s", f"[{point}]"), line)
    assert match, line
    numbers = match.groups()
    return _milliseconds(*numbers[:4]), _milliseconds(*numbers[4:])


def _milliseconds(hours, minutes, seconds, rest):
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(rest)
