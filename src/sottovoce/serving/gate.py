"""Who may ask: in front of every route, with the answers to what is wrong in one shape.

A server on loopback is reached by every page that a browser on the machine has open, so being local proves nothing:
- A page elsewhere may send a form to 127.0.0.1 without asking, and open a WebSocket there and read it. Browsers add
  `Origin` to both, so a request with another origin than this server is refused; and no answer has CORS headers.
- A page may let its own name point to 127.0.0.1 after it was loaded (DNS rebinding), and is then of the same origin as
  this server. The browser still sends the page's name as `Host`, so on loopback only names of loopback are taken.
"""

import ipaddress
import logging
import re
import secrets
import traceback
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sottovoce.serving import refused
from sottovoce.serving.metrics import Metrics
from sottovoce.serving.refused import Refused

_log = logging.getLogger("sottovoce.serving")
BROKEN = 1011  # RFC 6455, 7.4.1: an unexpected condition
OPEN = ("/health",)  # tells nothing, and what watches a server has no token


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, is this machine's own and nobody else's."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Gate:
    """Around an application: token, Host and Origin are checked, statuses counted, faults told without their words."""

    def __init__(self, app: ASGIApp, *, token: str | None, loopback: bool, metrics: Metrics) -> None:
        self._app, self._token, self._loopback, self._metrics = app, token, loopback, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        started = False

        async def counted(message: Message) -> None:
            nonlocal started
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                self._metrics.answered(message["status"])
            started = True
            await send(message)

        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope), scope["path"])
            await self._app(scope, receive, counted)
        except Refused as why:
            if not started:
                await as_response(why)(scope, receive, counted)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)  # its message may quote audio
            if not started:
                await as_response(refused.broken())(scope, receive, counted)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": BROKEN})

    def _check(self, headers: Headers, path: str) -> None:
        """Raise Refused for a request that may not be answered."""
        host = headers.get("host", "")
        if self._loopback and not is_loopback(re.sub(r":\d*$", "", host)):
            raise Refused(
                f"this server answers to localhost and 127.0.0.1; found Host {host!r}", status=403, code="host"
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refused("pages of another origin may not use this server", status=403, code="origin")
        if self._token is None or path in OPEN:
            return
        scheme, _, found = headers.get("authorization", "").partition(" ")
        right = secrets.compare_digest(found.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not right:
            told = "the token is missing or wrong; Authorization: Bearer TOKEN would work"
            raise Refused(told, status=401, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def as_response(why: Refused) -> JSONResponse:
    """OpenAI's shape of an error."""
    return JSONResponse({"error": why.as_error()}, why.status, why.headers)
