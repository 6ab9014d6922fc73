"""Ogg page by page: what libsndfile would leave out of a file without a word."""

from collections.abc import Iterator
from typing import NamedTuple

from sottovoce.speech.file_bytes import FileBytes

_VORBIS_HEADERS = 3
_CONTINUED, _FIRST, _LAST = 1, 2, 4


class Page(NamedTuple):
    """The flags of a page, the lengths of its segments, its first bytes, and the place in the file where it ends."""

    flags: int
    segments: bytes
    start: bytes
    end: int


def left_out(data: bytes | FileBytes) -> str | None:
    """What libsndfile does not decode of an Ogg file, in words; None if it decodes the whole.

    It stops at the end of the first of several streams (a recorded broadcast), and of a Vorbis stream from an old
    encoder it drops the audio that begins on the page where the headers end.
    """
    audio = False
    for page in _pages(data):
        if page.flags & _FIRST and audio:
            return "it holds several Ogg streams one after the other, of which libsndfile reads the first alone"
        audio = audio or not page.flags & _FIRST
    if _audio_beside_headers(data):
        return "its first audio lies on a page of headers, where libsndfile drops it"
    return None


def cut_short(data: bytes | FileBytes) -> bool:
    """Whether a file ends within a page, or its last page is not marked as that of its stream (RFC 3533, section 6).

    libsndfile decodes what is there and says nothing.
    """
    page = None
    for page in _pages(data):  # noqa: B007
        pass
    return page is None or not page.flags & _LAST or page.end > len(data)


def _audio_beside_headers(data: bytes | FileBytes) -> bool:
    """Whether a packet begins on the page where the third header of a Vorbis stream ends."""
    headers = 0
    for page in _pages(data):
        if page.flags & _FIRST and page.start[1:7] != b"vorbis":
            return False
        for place, length in enumerate(page.segments, start=1):
            headers += length < 255  # a packet ends
            if headers == _VORBIS_HEADERS:
                return place < len(page.segments)
    return False


def _pages(data: bytes | FileBytes) -> Iterator[Page]:
    at = 0
    while len(head := data[at : at + 27]) == 27 and head.startswith(b"OggS"):
        segments = data[at + 27 : at + 27 + head[26]]
        body = at + 27 + len(segments)
        at = body + sum(segments)
        yield Page(head[5], segments, data[body : body + 8], at)
