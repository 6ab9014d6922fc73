"""Text that is still being said, on the last line of a terminal; what is final stands above it."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from sottovoce.recognition.segment import Segment
    from sottovoce.recognition.updates import Partial

_CLEAR = "\r\x1b[2K"


class LiveText:
    """Partial texts in grey on standard error where it is a terminal, final ones on standard output."""

    def __init__(self) -> None:
        self._partials, self._finals = Console(stderr=True, highlight=False), Console(highlight=False)
        self._shown = False

    def partial(self, partial: "Partial") -> None:
        """What is being said, in place of the partial before; what is certain of it is less grey."""
        text, committed = partial.text, partial.committed
        if not self._partials.is_terminal:
            return
        self.clear()
        if text:
            room = max(8, self._partials.width - 1)
            told = Text.assemble((committed, "grey70"), (text[len(committed) :], "grey50"))
            if told.cell_len > room:
                told = Text("…") + told[len(told) - room + 1 :]  # of a long text its end
            self._partials.print(told, end="", soft_wrap=True)
            self._shown = True

    def final(self, segment: "Segment", late: float | None) -> None:
        """A final text in its place, and how many seconds late it is, if that is to be told."""
        self.clear()
        note = "" if late is None else f"  {late:.2f} s"
        self._finals.print(Text.assemble(segment.text, (note, "grey50")), soft_wrap=True)
        sys.stdout.flush()

    def clear(self) -> None:
        """Take the partial away."""
        if self._shown:
            self._partials.file.write(_CLEAR)
            self._partials.file.flush()
            self._shown = False


class LiveJson:
    """The same for a program: a line of JSON on standard output for each."""

    def partial(self, partial: "Partial") -> None:
        """{"type": "partial", "text": ..., "committed": ..., "start": ..., "end": ...}."""
        self._line("partial", **asdict(partial))

    def final(self, segment: "Segment", late: float | None) -> None:
        """{"type": "final", and what a segment of `transcribe --format json` has; "late" where it is to be told}."""
        self._line("final", **segment.as_document(), **({} if late is None else {"late": late}))

    def clear(self) -> None:
        """Nothing is to be taken away."""

    def _line(self, kind: str, **told: object) -> None:
        print(json.dumps({"type": kind, **told}), flush=True)
