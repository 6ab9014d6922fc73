"""`/v1/audio/transcriptions` and `/v1/audio/translations`: a file in, its text out, whole or as it comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sottovoce.recognition.segment import Stretch
from sottovoce.serving import refused
from sottovoce.serving.answers import answer, as_json, delta
from sottovoce.serving.asked import Asked, Task, asked
from sottovoce.serving.refused import Refused
from sottovoce.serving.service import Service
from sottovoce.serving.upload import receive_form
from sottovoce.serving.worker import Job


class Transcriptions:
    """An ASGI application, so that place and file are held until the last byte of the answer is sent."""

    def __init__(self, service: Service, task: Task) -> None:
        self._service, self._task = service, task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        service = self._service
        with service.worker.place(), service.recording() as path:
            fields = await receive_form(Request(scope, receive), path, service.limits.most_bytes)
            wanted = asked(self._task, fields)
            job = service.job(await asyncio.to_thread(service.transcriber, wanted), path)
            async with service.worker.doing(job), self._watched(job, receive):
                if wanted.stream:
                    await _stream(job, send)
                else:
                    await (await self._whole(wanted, job))(scope, receive, send)

    async def _whole(self, wanted: Asked, job: Job) -> Response:
        stretches = [stretch async for stretch in job.stretches()]
        made = answer(wanted, stretches, job.seconds, self._service.subtitles)
        return Response(made.body, media_type=made.content_type)

    @asynccontextmanager
    async def _watched(self, job: Job, receive: Receive) -> AsyncIterator[None]:
        """Stop the job when its client leaves."""

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._service.worker.stop(job)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()


async def _stream(job: Job, send: Send) -> None:
    """Server-sent events: what each stretch adds, then the whole text; or an error, as the last of them.

    Nothing is sent before the first stretch is there, so that audio which cannot be read still has a status of its own.
    """
    stretches = aiter(job.stretches())
    first: Stretch | None = await anext(stretches, None)
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    text, stretch = "", first
    try:
        while stretch is not None:
            for segment in stretch.segments:
                if added := delta(text, segment):
                    text += added
                    await _event(send, {"type": "transcript.text.delta", "delta": added})
            stretch = await anext(stretches, None)
        await _event(send, {"type": "transcript.text.done", "text": text})
    except Refused as why:
        if why.status != refused.gone().status:
            await _event(send, {"error": why.as_error()})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _event(send: Send, document: dict[str, object]) -> None:
    body = f"data: {as_json(document)}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})
