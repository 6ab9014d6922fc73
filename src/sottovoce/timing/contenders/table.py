"""The one table of the peers of `bench`, and what is refused before one is made.

To add a peer: write a Timed and a Peer in a file of its own, and its line in PEERS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sottovoce.models.checkpoint import model_type
from sottovoce.nearest import unknown
from sottovoce.recognition.target import Target
from sottovoce.targets.exported import check_installed
from sottovoce.timing.contenders.base import Peer
from sottovoce.timing.contenders.contender import Contender
from sottovoce.timing.contenders.faster_whisper import FASTER_WHISPER, FASTER_WHISPER_BEST
from sottovoce.timing.contenders.transformers import TRANSFORMERS
from sottovoce.timing.contenders.whisper_cpp import WHISPER_CPP

PEERS: Mapping[str, Peer] = {
    "faster-whisper": FASTER_WHISPER,
    "faster-whisper-best": FASTER_WHISPER_BEST,
    "whisper.cpp": WHISPER_CPP,
    "transformers": TRANSFORMERS,
}


@dataclass(frozen=True)
class Asked:
    """A peer that can run: its name, the uncompressed checkpoint that it is made from, the user's file or None."""

    name: str
    base: Target
    file: Path | None

    def contender(self, folder: Path) -> Contender:
        """Make its model in a folder to write in, which other peers share."""
        peer, rules = PEERS[self.name], self.base.frontend.rules()
        made = peer.make(self.base, folder, self.file)
        return Contender(
            self.name,
            made.bytes,
            peer.runs,
            str(made.model),
            rules.prompt,
            rules.end,
            rules.most_tokens,
            dict(peer.environment),
        )


def ask(names: Sequence[str], target: Target) -> list[Asked]:
    """The peers of some names, or NAME=FILE, beside a target; no weight is read.

    Raises ValueError for a peer that is unknown, not installed, or runs no such model, a file that is missing or not
    asked for, and a target whose uncompressed checkpoint is gone.
    """
    wanted = [_named(name) for name in dict.fromkeys(names)]
    for name, _ in wanted:
        check_installed(PEERS[name])
    if not wanted:
        return []
    base = target.before_compression("a peer is made from it")
    kind = model_type(base.checkpoint)
    for name, _ in wanted:
        if kind not in PEERS[name].families:
            able = [other for other, peer in PEERS.items() if kind in peer.families]
            raise ValueError(
                f"{PEERS[name].title} runs {' and '.join(PEERS[name].families)} only, and {target.name} is a {kind}; "
                f"--peer {' or '.join(able)} would work"
            )
    return [Asked(name, base, file) for name, file in wanted]


def _named(text: str) -> tuple[str, Path | None]:
    name, _, file = text.partition("=")
    if name not in PEERS:
        raise unknown("peer", name, PEERS)
    peer = PEERS[name]
    if not peer.file:
        if file:
            raise ValueError(f"peer {text}: {name} is made from the target's own checkpoint; {name} alone would work")
        return name, None
    if not Path(file).is_file():
        found = f"and {file} is no file" if file else "and none is named"
        raise ValueError(f"peer {text}: {peer.title} needs {peer.file}, {found}; {name}=FILE would work")
    return name, Path(file)
