"""The microphone, through PortAudio: sounddevice is imported where it is used, and is an extra (`listen`)."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]
BLOCK_SECONDS = 0.032  # as the voice activity detection hears it
SILENT_SECONDS = 5.0  # after which a microphone that gives nothing is taken for broken


@contextmanager
def microphone(
    rate: int, name: str | None = None, lost: Callable[[], None] = lambda: None
) -> Iterator[Iterator[Samples]]:
    """Within, what a microphone hears: (n,) float32 at `rate` Hz, one channel, all that has come since the last block.

    name  of the device, or a part of it, or its number; None for the system's own choice
    lost  is called where the system dropped samples, as nobody took them in time

    Raises ValueError where sounddevice, PortAudio or a microphone is missing, or none or several have that name.
    """
    sounddevice = _sounddevice()
    device = _device(sounddevice, name)
    own = int(device["default_samplerate"])
    heard: queue.Queue[Samples] = queue.Queue()

    def take(samples: Any, _frames: int, _time: Any, status: Any) -> None:
        if status and status.input_overflow:
            lost()
        heard.put(samples[:, 0].copy())

    try:
        stream = sounddevice.InputStream(
            device=device["index"],
            samplerate=own,
            channels=1,
            dtype="float32",
            blocksize=round(own * BLOCK_SECONDS),
            callback=take,
        )
        with stream:
            yield _taken(heard, own, rate, device["name"])
    except sounddevice.PortAudioError as error:
        raise ValueError(f"the microphone {device['name']} cannot be opened: {error}") from error


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise ValueError(
            'listening needs the package sounddevice; pip install "sottovoce[listen]" installs it'
        ) from None
    except OSError as error:  # of its own library, which wheels for Linux do not have
        raise ValueError(
            f"sounddevice finds no PortAudio ({error}); the system's package would work, as libportaudio2 of Debian, "
            "or --from FILE"
        ) from None
    return sounddevice


def _device(sounddevice: Any, name: str | None) -> Any:
    """The microphone of that name."""
    found = [device for device in sounddevice.query_devices() if device["max_input_channels"] > 0]
    if not found:
        raise ValueError("this machine has no microphone that PortAudio knows; --from FILE hears a file instead")
    names = ", ".join(f"{device['index']} {device['name']}" for device in found)
    if name is None:
        chosen = sounddevice.default.device[0]
        own = [device for device in found if device["index"] == chosen]
        if not own:
            raise ValueError(f"the system names no microphone as its own choice; --device-name with one of: {names}")
        return own[0]
    same = [device for device in found if name in (str(device["index"]), device["name"])]
    same = same or [device for device in found if name.casefold() in device["name"].casefold()]
    if len(same) != 1:
        raise ValueError(f"{len(same) or 'no'} microphones are called {name!r}; there are {names}")
    return same[0]


def _taken(heard: "queue.Queue[Samples]", own: int, rate: int, name: str) -> Iterator[Samples]:
    filtering = None if own == rate else soxr.ResampleStream(own, rate, 1, dtype="float32", quality="HQ")
    while True:
        try:
            blocks = [heard.get(timeout=SILENT_SECONDS)]
        except queue.Empty:
            raise ValueError(f"the microphone {name} has given nothing for {SILENT_SECONDS:g} s") from None
        while not heard.empty():
            blocks.append(heard.get())
        samples = np.concatenate(blocks)
        yield samples if filtering is None else filtering.resample_chunk(samples)
