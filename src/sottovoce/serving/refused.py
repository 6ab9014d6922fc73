"""A request that is not answered with a transcript: one sentence, in the shape of OpenAI's errors."""

from collections.abc import Mapping
from typing import Any


class Refused(Exception):  # noqa: N818  it is an answer
    """status is HTTP's; code is a word for programs; headers go with the answer."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "invalid_value", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code = message, status, code
        self.headers = dict(headers or {})

    def as_error(self) -> dict[str, Any]:
        """What stands under "error"."""
        kinds = {429: "rate_limit_error", 401: "authentication_error", 403: "permission_error"}
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"message": self.message, "type": kinds.get(self.status, usual), "code": self.code, "param": None}


def gone() -> Refused:
    """For a client that has closed its connection; nobody reads it, and it is counted as nginx does."""
    return Refused("the client has closed the connection", status=499, code="closed")


def closing() -> Refused:
    """For what a server that is being stopped does not finish."""
    return Refused("the server is shutting down; try again later", status=503, code="shutting_down")


def broken() -> Refused:
    """For a fault of the server; what it was stands in its log."""
    return Refused("the server failed at this request; its log says where", status=500, code="internal_error")
