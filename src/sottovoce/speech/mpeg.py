"""MPEG audio (MP3) frame by frame: how many there are, and how many an Info header promises.

A stream whose encoder could not seek back (a pipe, Common Voice's clips) has no Info header, and its length follows
from its frames alone. libsndfile estimates it instead, from the size of the first frame, and stops reading there.
"""

from dataclasses import dataclass
from typing import NamedTuple

from sottovoce.speech.file_bytes import FileBytes
from sottovoce.speech.spliced import Piece, Spliced

_FULL_RATE = (44_100, 48_000, 32_000)  # Hz, MPEG-1; MPEG-2 has half of it, MPEG-2.5 a quarter
_SLOWER = {3: 1, 2: 2, 0: 4}  # by the header's two bits of the version
_KBIT = {  # by MPEG-1 or later, and layer
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class Kind(NamedTuple):
    """What all frames of a stream share."""

    version: int
    layer: int
    rate: int

    @property
    def samples(self) -> int:
        """Of each channel in one frame."""
        return {1: 384, 2: 1152, 3: 1152 if self.version == 3 else 576}[self.layer]


@dataclass(frozen=True)
class Stream:
    """The frames of a file, and how many its Info, Xing or VBRI header promises, if any does.

    runs           the places of frames of audio that follow each other without a gap
    n_frames       in all runs
    longest, last  of them, in bytes
    """

    data: bytes | FileBytes
    kind: Kind
    runs: tuple[range, ...]
    n_frames: int
    longest: int
    last: int
    promised: int | None

    @property
    def samples(self) -> int:
        """Of each channel, in all frames."""
        return self.n_frames * self.kind.samples

    def without_header(self) -> Spliced:
        """A file whose length libsndfile overestimates, so that it reads every frame; what follows them is to be cut.

        It takes all frames to be as long as the first, so the file is made as long as if all were as the longest.
        """
        missing = (self.n_frames + 2) * self.longest - sum(map(len, self.runs))
        end = self.runs[-1].stop
        more = Piece(self.data, end - self.last, end, 2 + missing // self.last)
        return Spliced([*(Piece(self.data, run.start, run.stop) for run in self.runs), more])


def read_stream(data: bytes | FileBytes) -> Stream | None:
    """The frames of an MPEG audio file; None where none are found, as in one of free bit rate.

    Tags and junk between frames are stepped over; a last frame that is cut does not count.
    """
    found = _next(data, _after_tags(data), None)
    if found is None:
        return None
    begin, kind, length = found
    promised = _promised(data[begin : begin + length], kind)
    if promised is not None:
        found = _next(data, begin + length, kind)
    runs: list[range] = []
    n_frames = longest = last = 0
    while found is not None:
        begin, _, last = found
        if runs and runs[-1].stop == begin:
            runs[-1] = range(runs[-1].start, begin + last)
        else:
            runs.append(range(begin, begin + last))
        n_frames, longest = n_frames + 1, max(longest, last)
        found = _next(data, begin + last, kind)
    return Stream(data, kind, tuple(runs), n_frames, longest, last, promised or None) if runs else None


def _next(data: bytes | FileBytes, start: int, kind: Kind | None) -> tuple[int, Kind, int] | None:
    """Where the next whole frame (of that kind) begins, its kind and its length.

    After other bytes it must be followed by another or by the end: they may hold what looks like a header.
    """
    at = start
    while (at := data.find(b"\xff", at)) >= 0:
        if (found := _frame(data, at, kind)) is not None:
            end = at + found[1]
            if (at == start and kind) or end == len(data) or _frame(data, end, found[0]) is not None:
                return at, *found
        at += 1
    return None


def _frame(data: bytes | FileBytes, at: int, kind: Kind | None) -> tuple[Kind, int] | None:
    """The kind and the length of the frame (of that kind) at this place; None if there is no whole one."""
    header = _header(data[at : at + 4])
    if header and (kind is None or header[0] == kind) and at + header[1] <= len(data):
        return header
    return None


def _header(head: bytes) -> tuple[Kind, int] | None:
    """The kind and the length in bytes of a frame with this header of four bytes; None if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    kind = Kind(version, layer, _FULL_RATE[rate] // _SLOWER[version])
    per_second = 1000 * _KBIT[version == 3, layer][bits]
    if layer == 1:
        return kind, 4 * (12 * per_second // kind.rate + padding)
    return kind, kind.samples // 8 * per_second // kind.rate + padding


def _after_tags(data: bytes | FileBytes) -> int:
    """Where the ID3v2 tags at the start end: pictures in them may look like frames."""
    start = 0
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        size = 0
        head = data[start : start + 10]
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if head[5] & 0x10 else 0)
    return start


def _promised(frame: bytes, kind: Kind) -> int | None:
    """The frames that a first frame's header promises, 0 if it names no number; None if it is a frame of audio."""
    if kind.layer != 3:
        return None
    mono = frame[3] >> 6 == 3
    side = (17 if mono else 32) if kind.version == 3 else (9 if mono else 17)
    for at in (4 + side, 6 + side):  # behind a checksum in the second place
        if frame[at : at + 4] in (b"Xing", b"Info"):
            return int.from_bytes(frame[at + 8 : at + 12], "big") if frame[at + 7] & 1 else 0
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big")
    return None
