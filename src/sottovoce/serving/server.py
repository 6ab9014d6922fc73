"""A server on an address: who may be let in is settled before anything is opened, and Ctrl-C ends it in order."""

import logging
import re
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from sottovoce.serving.application import application
from sottovoce.serving.gate import is_loopback
from sottovoce.serving.service import Service

# of a service manager and of a terminal that is closed; by themselves they would end it with recordings left on disk
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
GRACE_SECONDS = 5  # after Ctrl-C, for what is about to be finished


@dataclass(frozen=True)
class Address:
    """Where a server listens, and the token that it asks for, if any.

    Raises ValueError for an address beyond loopback without a token, and for a token that cannot be sent.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"--port {self.port}: 0 (any that is free) to 65535 would work")
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise ValueError("--token has to be of printable ASCII characters without spaces")
        if self.token is None and not self.loopback:
            raise ValueError(
                f"--host {self.host} can be reached by other machines, and without a token by everybody on them; "
                "--token, or SOTTOVOCE_TOKEN in the environment, would work"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def bound(address: Address) -> socket.socket:
    """A socket bound to it. Raises ValueError if that cannot be."""
    host = address.host.strip("[]")
    made = None
    try:
        family, _, _, _, place = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(place)
    except OSError as error:
        if made:
            made.close()
        told = f"cannot listen on {address.host} port {address.port}: {error.strerror or error}"
        raise ValueError(f"{told}; another --host or --port may work") from None
    return made


def url(listening: socket.socket) -> str:
    """The base address for clients, as "http://127.0.0.1:8080/v1"."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


class Server(uvicorn.Server):
    """One that tells when it answers; until then a signal would end it without order."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        self._ready()


def server(service: Service, address: Address, ready: Callable[[], None]) -> Server:
    """What runs on a socket: `server(...).run(sockets=[...])`. It logs faults, and no request."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it quotes bytes of a form
    logging.getLogger("uvicorn.error").addFilter(_only_words)
    app = application(service, token=address.token, loopback=address.loopback)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on them, and who sends them is not known
        ws_per_message_deflate=False,  # audio does not shrink
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config, ready)


def serve(service: Service, address: Address, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C, or another signal to end; ready is told the address as soon as it answers."""
    place = url(listening)
    made = server(service, address, lambda: ready(place))
    before = {number: signal.signal(number, made.handle_exit) for number in _ENDS}
    try:
        made.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _only_words(record: logging.LogRecord) -> bool:
    """Without the traceback of an exception, whose message may quote what was said."""
    record.exc_info = None
    return True
