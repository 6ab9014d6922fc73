"""One thread that owns the model, and the jobs that wait for it in a bounded queue.

A job leaves the queue, or stops at its next block or stretch, when whoever waits for it is gone.
"""

import asyncio
import logging
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from sottovoce.recognition.segment import Stretch
from sottovoce.serving import refused
from sottovoce.serving.metrics import Metrics
from sottovoce.serving.refused import Refused

_log = logging.getLogger("sottovoce.serving")
MOST_RETRY_SECONDS = 60  # OpenAI's clients take no longer Retry-After
Blocks = Callable[[Path, int], Iterator[np.ndarray]]


class Transcribing(Protocol):
    """What the worker runs; recognition's Transcriber is one."""

    def stretches(self, blocks: Iterable[np.ndarray], start: float = 0.0) -> Iterator[Stretch]:
        """Blocks (samples,) float32 mono to finished stretches."""


class Job:
    """One recording on its way through the worker; made in the event loop that waits for it.

    path          of the recording, which no message names
    blocks        its samples, each (samples,) float32 mono at so many Hz; called when the worker comes to it
    most_seconds  decoded; more is refused with 413
    """

    def __init__(self, transcriber: Transcribing, path: Path, rate: int, blocks: Blocks, most_seconds: float) -> None:
        self._transcriber, self._path, self._rate = transcriber, path, rate
        self._open, self._most_seconds = blocks, most_seconds
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Stretch | Refused | None] = asyncio.Queue()
        self._over = asyncio.Event()
        self._why: Refused | None = None
        self._samples = 0

    @property
    def seconds(self) -> float:
        """Of audio, decoded so far."""
        return self._samples / self._rate

    async def stretches(self) -> AsyncIterator[Stretch]:
        """What comes out, as it comes. Raises Refused if it does not come to its end."""
        while (told := await self._told.get()) is not None:
            if isinstance(told, Refused):
                raise told
            yield told

    async def over(self) -> None:
        """Wait until the worker has let go of it, so that its file can be deleted."""
        await self._over.wait()

    def stop(self, why: Refused) -> None:
        """End it at its next block or stretch; the first reason holds. Of no effect on one that is over."""
        self._why = self._why or why

    def run(self) -> Refused | None:
        """All of it, in the worker; why it did not come to its end."""
        try:
            with closing(self._blocks()) as blocks:
                for stretch in self._transcriber.stretches(blocks):
                    self._check()
                    self._tell(self._told.put_nowait, stretch)
            self._check()
        except Refused as why:
            return Refused(why.message, status=why.status, code=why.code)  # a new one: the frames of this hold audio
        except ValueError as error:
            return Refused(str(error).replace(str(self._path), "the recording"), code="invalid_audio")
        except BaseException as error:  # a runtime's panic is no Exception, and the thread has to live
            return _logged(error)
        return None

    def end(self, why: Refused | None) -> None:
        """Say that nothing follows, from any thread."""
        self._tell(self._told.put_nowait, why)
        self._tell(self._over.set)

    def _check(self) -> None:
        if self._why:
            raise self._why

    def _blocks(self) -> Generator[np.ndarray, None, None]:
        source = self._open(self._path, self._rate)
        try:
            for block in source:
                self._check()
                self._samples += len(block)
                if self.seconds > self._most_seconds:
                    raise Refused(
                        f"the recording is longer than {self._most_seconds:g} s, which is the most that this server "
                        "takes; send it in pieces",
                        status=413,
                        code="audio_too_long",
                    )
                yield block
        finally:
            if isinstance(source, Generator):
                source.close()  # the file is to be deleted

    def _tell(self, call: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):  # the event loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(call, *values)


def _logged(error: BaseException) -> Refused:
    """Log where a fault was and of what kind, but not its message, which might quote what was said."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
    return refused.broken()


class Worker:
    """The thread, the jobs that wait, and the places of requests that may be under way at once.

    A place is held from before the file is received until the answer is sent, so files on disk are bounded too.
    """

    def __init__(self, queue: int, metrics: Metrics) -> None:
        self._places, self._held = queue + 1, 0
        self._metrics = metrics
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="transcriber", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Finish nothing more, and wait for the stretch that is at work."""
        with self._changed:
            self._closed = True
            waiting = [*self._waiting]
            self._waiting.clear()
            if self._running:
                self._running.stop(refused.closing())
            self._changed.notify()
        for job in waiting:
            job.end(refused.closing())
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._waiting)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests under way. Raises Refused, with 429, if there is none. For the event loop only."""
        if self._held >= self._places:
            after = min(max(1, math.ceil(self._metrics.seconds_a_job)), MOST_RETRY_SECONDS)
            raise Refused(
                f"the queue of {self._places - 1} is full; try again in {after} s",
                status=429,
                code="queue_full",
                headers={"Retry-After": str(after)},
            )
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    @asynccontextmanager
    async def doing(self, job: Job) -> AsyncIterator[None]:
        """The job is in the queue or at work; afterwards it is neither, however the block ends."""
        with self._changed:
            if self._closed:
                raise refused.closing()
            self._waiting.append(job)
            self._changed.notify()
        try:
            yield
        finally:
            self.stop(job)
            await job.over()

    def stop(self, job: Job) -> None:
        """Take it out of the queue, or end it at its next stretch: its client is gone."""
        with self._changed:
            waits = job in self._waiting
            if waits:
                self._waiting.remove(job)
            else:
                job.stop(refused.gone())
        if waits:
            job.end(refused.gone())

    def _run(self) -> None:
        while job := self._next():
            started = time.perf_counter()
            why = job.run()
            self._metrics.worked(job.seconds, time.perf_counter() - started)
            job.end(why)

    def _next(self) -> Job | None:
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._running = self._waiting.popleft()
            return self._running
