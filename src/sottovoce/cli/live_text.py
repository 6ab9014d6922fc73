"""Text that is still being said, on the last line of a terminal; what is final stands above it."""

import sys

from rich.console import Console
from rich.text import Text

_CLEAR = "\r\x1b[2K"


class LiveText:
    """Partial texts in grey on standard error where it is a terminal, final ones on standard output."""

    def __init__(self) -> None:
        self._partials, self._finals = Console(stderr=True, highlight=False), Console(highlight=False)
        self._shown = False

    def partial(self, text: str, committed: str) -> None:
        """What is being said, in place of the partial before; what is certain of it is less grey.

        committed  what the text begins with, and is certain
        """
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

    def final(self, text: str, note: str = "") -> None:
        """A final text in its place."""
        self.clear()
        self._finals.print(Text.assemble(text, (f"  {note}" if note else "", "grey50")), soft_wrap=True)
        sys.stdout.flush()

    def clear(self) -> None:
        """Take the partial away."""
        if self._shown:
            self._partials.file.write(_CLEAR)
            self._partials.file.flush()
            self._shown = False
