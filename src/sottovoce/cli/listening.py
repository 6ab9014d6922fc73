"""`sottovoce listen`."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from sottovoce.cli.console import say
from sottovoce.cli.live_text import LiveJson, LiveText

if TYPE_CHECKING:
    import numpy as np

    from sottovoce.recognition.live import Heard, Live
    from sottovoce.recognition.recognizer import Recognizer


def listen(
    model: Annotated[
        str, typer.Argument(help="An artifact, an export, a checkpoint folder, or a hub id in the cache.")
    ],
    device_name: Annotated[
        str | None,
        typer.Option(help="The microphone, by its name, a part of it, or its number; by default the system's own."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="For a multilingual Whisper; by default the checkpoint's, else detected in the first segment."
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text that is taken to come before: names, spelling, style (Whisper only).")
    ] = None,
    silence: Annotated[float, typer.Option(help="Seconds without speech that end a segment; at least 0.3.")] = 0.6,
    save: Annotated[Path | None, typer.Option(help="A new file that gets each final text as a line.")] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Show how long after its last word each text came.")
    ] = False,
    from_: Annotated[Path | None, typer.Option("--from", help="A file of speech instead of the microphone.")] = None,
    pace: Annotated[
        bool, typer.Option("--pace", help="With --from: as slowly as it was recorded, with partial texts.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print each partial and each final text as a line of JSON, with its times.")
    ] = False,
) -> None:
    """Write what is said into a microphone, while it is being said, until Ctrl-C.

    What may still change is grey; what is final takes its place after a pause. Nothing leaves this machine.

    Example: sottovoce listen builtin:whisper --save notes.txt
    """
    _check(from_, pace, latency, device_name, save)
    from sottovoce.recognition.live import Live
    from sottovoce.recognition.target import load
    from sottovoce.recognition.wishes import Wishes

    recognizer = load(model, language=language)
    partial_seconds = math.inf if from_ and not pace else 0.5
    live = Live.of(recognizer, Wishes(prompt=prompt), silence_seconds=silence, partial_seconds=partial_seconds)
    with ExitStack() as opened:
        stopped = opened.enter_context(_stopped_in_order())
        source = _from_file(from_, recognizer, pace) if from_ else _from_microphone(recognizer, device_name)
        blocks = opened.enter_context(source)
        file = opened.enter_context(save.open("x", encoding="utf-8")) if save else None
        if not from_:
            say("listening; Ctrl-C ends")
        text: LiveText | LiveJson = LiveJson() if json else LiveText()
        opened.callback(text.clear)
        for heard in _heard(live, blocks, stopped):
            _tell(heard, text, latency, file)


@dataclass(frozen=True)
class _Told:
    """What was heard, and when the clock said that the audio of second 0 came."""

    heard: "Heard"
    began: float


def _check(from_: Path | None, pace: bool, latency: bool, device_name: str | None, save: Path | None) -> None:
    if pace and not from_:
        raise ValueError("--pace is of a file; give one with --from, or leave --pace out")
    if from_ and device_name:
        raise ValueError("--from hears a file and --device-name a microphone; leave one out")
    if latency and from_ and not pace:
        raise ValueError("a file that is read as fast as possible has no latency; --pace would give it one")
    if save and save.exists():
        raise ValueError(f"{save} exists; name a new file with --save")


@contextmanager
def _stopped_in_order() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C is told to who asks, so that what was said is still written; a second one interrupts."""
    asked = False

    def stop(*_: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _from_file(path: Path, recognizer: "Recognizer", pace: bool) -> "Iterator[Iterator[np.ndarray]]":
    from sottovoce.speech.paced import paced
    from sottovoce.speech.stream import blocks

    rate = recognizer.frontend.sampling_rate
    found = blocks(path, rate)
    all_of_it = chain([next(found)], found)  # what is no audio is refused before anything is written
    yield paced(all_of_it, rate) if pace else all_of_it


def _from_microphone(recognizer: "Recognizer", name: str | None) -> "AbstractContextManager[Iterator[np.ndarray]]":
    from sottovoce.speech.microphone import microphone

    def lost() -> None:
        say("the system dropped samples, as this program was too slow", mark="note:", style="yellow")

    return microphone(recognizer.frontend.sampling_rate, name, lost)


def _heard(live: "Live", blocks: "Iterator[np.ndarray]", stopped: Callable[[], bool]) -> Iterator[_Told]:
    """All that is heard until the blocks end, or somebody stops it; what ends them too early is raised after that."""
    now, failed = time.monotonic(), list[ValueError]()
    for block in _as_far_as_they_go(blocks, failed):
        now = time.monotonic()
        for heard in live.feed(block):
            yield _Told(heard, now - live.seconds)
        if stopped():
            break
    for heard in live.finish():
        yield _Told(heard, now - live.seconds)
    if failed:
        raise failed[0]


def _as_far_as_they_go(blocks: "Iterator[np.ndarray]", failed: list[ValueError]) -> "Iterator[np.ndarray]":
    try:
        yield from blocks
    except ValueError as error:
        failed.append(error)


def _tell(told: _Told, text: "LiveText | LiveJson", latency: bool, file: TextIO | None) -> None:
    from sottovoce.recognition.live import Final

    heard = told.heard
    if not isinstance(heard, Final):
        text.partial(heard)
        return
    late = time.monotonic() - told.began - heard.spoken_until
    text.final(heard.segment, round(late, 3) if latency else None)
    if file:
        file.write(heard.segment.text + "\n")
        file.flush()
