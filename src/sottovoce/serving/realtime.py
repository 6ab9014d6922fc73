"""`/v1/realtime`: a live client adds audio and commits it, and gets its text: a small part of OpenAI's interface.

A commit goes through the same queue as a file does, and while it waits the client may go on adding audio.
"""

import asyncio
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from sottovoce.serving.answers import as_json, text_of, usage
from sottovoce.serving.live_audio import LiveAudio
from sottovoce.serving.live_events import (
    Append,
    ClientEvent,
    Commit,
    Settings,
    Update,
    new_name,
    read_event,
    server_event,
)
from sottovoce.serving.refused import Refused
from sottovoce.serving.service import Service
from sottovoce.serving.worker import Job

_DONE = "conversation.item.input_audio_transcription.completed"
_FAILED = "conversation.item.input_audio_transcription.failed"


class LiveSession:
    """One WebSocket from its first to its last event."""

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self._service, self._socket = service, socket
        self._settings = Settings()
        self._held = ExitStack()  # what is added now, and its file
        self._audio: LiveAudio | None = None
        self._path = Path()
        self._last_item: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Answer events until the client leaves."""
        await self._send("session.created", session=self._settings.as_session(self._service.model.name))
        try:
            while True:
                await self._answer(await self._socket.receive())
        except WebSocketDisconnect:
            return
        finally:
            self._forget()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, message: Any) -> None:
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        event_id = None
        try:
            event = read_event(message.get("text") or "")
            event_id = event.event_id
            await self._do(event)
        except Refused as why:
            await self._send("error", error=why.as_error() | {"event_id": event_id})

    async def _do(self, event: ClientEvent) -> None:
        if isinstance(event, Update):
            await self._update(event)
        elif isinstance(event, Append):
            self._append(event.audio)
        elif isinstance(event, Commit):
            await self._commit()
        else:
            self._forget()
            await self._send("input_audio_buffer.cleared")

    async def _update(self, event: Update) -> None:
        settings = self._settings.updated(event.session)
        if self._audio and settings.rate != self._settings.rate:
            raise Refused("the rate cannot change within a recording; commit or clear it first")
        await asyncio.to_thread(self._service.transcriber, settings.asked)  # what cannot be done is refused at once
        self._settings = settings
        await self._send("session.updated", session=settings.as_session(self._service.model.name))

    def _append(self, audio: str) -> None:
        if self._audio is None:
            with ExitStack() as held:
                path = held.enter_context(self._service.recording())
                self._audio = LiveAudio(path, self._settings.rate, self._service.limits)
                held.callback(self._audio.close)
                self._path = path
                self._held = held.pop_all()
        self._audio.append(audio)

    def _forget(self) -> None:
        self._audio = None
        self._held.pop_all().close()

    async def _commit(self) -> None:
        if self._audio is None or not self._audio.bytes:
            raise Refused("there is no audio to commit; append some first", code="input_audio_buffer_commit_empty")
        with ExitStack() as held:
            held.enter_context(self._service.worker.place())  # a full queue leaves the audio where it is
            transcriber = await asyncio.to_thread(self._service.transcriber, self._settings.asked)
            self._audio.close()
            held.push(self._held.pop_all())
            self._audio = None
            item, before = new_name("item"), self._last_item
            self._last_item = item
            task = asyncio.create_task(self._transcribe(self._service.job(transcriber, self._path), item))
            task.add_done_callback(partial(_close, held.pop_all()))  # also of a task that never began
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self._send("input_audio_buffer.committed", item_id=item, previous_item_id=before)

    async def _transcribe(self, job: Job, item: str) -> None:
        try:
            async with self._service.worker.doing(job):
                stretches = [stretch async for stretch in job.stretches()]
            text = text_of(segment for stretch in stretches for segment in stretch.segments)
            await self._send(_DONE, item_id=item, content_index=0, transcript=text, usage=usage(job.seconds))
        except Refused as why:
            await self._send(_FAILED, item_id=item, content_index=0, error=why.as_error())

    async def _send(self, kind: str, **fields: Any) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # the client has left, which `run` is told too
            await self._socket.send_text(as_json(server_event(kind, **fields)))


def _close(held: ExitStack, _: "asyncio.Task[None]") -> None:
    held.close()


class Realtime:
    """The sessions of a server, of which there are as many as places in its queue."""

    def __init__(self, service: Service) -> None:
        self._service, self._open = service, 0

    async def __call__(self, socket: WebSocket) -> None:
        """Take a client, or refuse it with 429."""
        most = self._service.limits.queue + 1
        if self._open >= most:
            raise Refused(f"there are {most} live sessions already; close one", status=429, code="too_many_sessions")
        self._open += 1
        try:
            await socket.accept()
            await LiveSession(self._service, socket).run()
        finally:
            self._open -= 1
