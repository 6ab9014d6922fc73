"""The verb `verify-offline`: a transcription where there is no network, and the proof of it.

On Linux a child process goes into a network namespace of its own (unshare(2)), in which no interface is up. Where that
is not allowed, and on other systems, an audit hook (PEP 578) refuses every connection and every look-up of a name. In
both cases the hook writes down what was tried.
"""

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # sched.h
_OUTWARD = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind"})
_NOWHERE = ("192.0.2.1", 443)  # RFC 5737: an address that nobody has
NAMESPACE, BLOCKED = "network namespace", "sockets blocked"


@dataclass(frozen=True)
class Proof:
    """What was seen.

    how         NAMESPACE or BLOCKED
    interfaces  those that the process could see: the loopback alone in a namespace; none are asked for where blocked
    refused     what a connection outward gave, tried on purpose
    attempts    what the transcription itself tried, as "socket.connect ('1.2.3.4', 443)"
    seconds     of the audio; took: of the work
    """

    how: str
    interfaces: tuple[str, ...]
    refused: str
    attempts: tuple[str, ...]
    text: str
    seconds: float
    took: float


def verify_offline(target: str, recording: Path) -> Proof:
    """Transcribe a recording in a process without network.

    Raises ValueError where it fails there, with what it said.
    """
    command = [sys.executable, "-m", "sottovoce.transcribing.offline", target, str(recording)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ValueError(f"without network the transcription failed: {said[-1] if said else 'no reason was given'}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Proof(**found | {"interfaces": tuple(found["interfaces"]), "attempts": tuple(found["attempts"])})


def _alone() -> bool:
    """Go into a network namespace of one's own; whether that was allowed."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_NEW_NETWORK, _NEW_USER | _NEW_NETWORK))


class _Watch:
    """Writes down what goes outward, and refuses it where there is no namespace."""

    def __init__(self, refuse: bool) -> None:
        self.refuse, self.seen = refuse, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if event not in _OUTWARD or (event == "socket.connect" and given[0].family == getattr(socket, "AF_UNIX", None)):
            return
        self.seen.append(f"{event} {given[1] if event == 'socket.connect' else given[0]}")
        if self.refuse:
            raise OSError(errno.ENETUNREACH, "sottovoce verify-offline allows no network")


def _refused() -> str:
    """What a connection outward gives here."""
    try:
        with socket.socket() as outward:
            outward.settimeout(3)
            outward.connect(_NOWHERE)
    except OSError as error:
        return str(error)
    raise ValueError(f"there is a network: {_NOWHERE[0]} could be reached")


def _prove(target: str, recording: str) -> Proof:
    alone = _alone()
    watch = _Watch(refuse=not alone)
    interfaces = tuple(name for _, name in socket.if_nameindex()) if alone else ()
    refused = _refused()
    watch.seen.clear()
    from sottovoce.recognition.target import load

    model = load(target)
    began = time.perf_counter()
    heard = model.transcribe(recording)
    took = time.perf_counter() - began
    how = NAMESPACE if alone else BLOCKED
    return Proof(how, interfaces, refused, tuple(watch.seen), heard.text, heard.seconds, took)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        print(json.dumps(asdict(_prove(*sys.argv[1:]))))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
