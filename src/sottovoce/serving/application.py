"""The routes."""

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.routing import Route

from sottovoce.serving.asked import Task
from sottovoce.serving.gate import Gate, as_response
from sottovoce.serving.metrics import CONTENT_TYPE
from sottovoce.serving.realtime import Realtime
from sottovoce.serving.refused import Refused
from sottovoce.serving.service import Service
from sottovoce.serving.transcriptions import Transcriptions

# FastAPI's own telemetry sends messages of exceptions to whoever has set it up; its pages load scripts from elsewhere
_QUIET = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False)
_TASKS: dict[str, Task] = {"transcriptions": "transcribe", "translations": "translate"}


def application(service: Service, *, token: str | None = None, loopback: bool = True) -> FastAPI:
    """The ASGI application. loopback says that it is bound to addresses of this machine alone."""
    app = FastAPI(telemetry=_QUIET, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, token=token, loopback=loopback, metrics=service.metrics)
    app.add_exception_handler(HTTPException, _no_route)
    for path, task in _TASKS.items():
        app.router.routes.append(Route(f"/v1/audio/{path}", Transcriptions(service, task), methods=["POST"]))
    realtime = Realtime(service)

    @app.websocket("/v1/realtime")
    async def live(socket: WebSocket) -> None:
        await realtime(socket)

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [_model(service)]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name != service.model.name:
            told = f"there is no model {name[:100]!r}; this server has {service.model.name}"
            raise Refused(told, status=404, code="model_not_found")
        return JSONResponse(_model(service))

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(service.metrics.text(service.worker.waiting), media_type=CONTENT_TYPE)

    return app


def _model(service: Service) -> dict[str, object]:
    return {"id": service.model.name, "object": "model", "created": 0, "owned_by": "sottovoce"}


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = f"{request.method} {request.url.path}: {error.detail.lower()}"
    return as_response(Refused(told, status=error.status_code, code="unknown_url", headers=error.headers))
