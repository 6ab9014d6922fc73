"""A form with one file, written to disk as it comes (RFC 7578): bounded, and under a name of the server's own.

The name that a client gives its file is read by nobody, so that it can become no path.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from sottovoce.serving import refused
from sottovoce.serving.refused import Refused

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_FIELD_BYTES = 65_536  # of all parameters together
MOST_FIELDS = 64
AROUND_BYTES = 1_000_000  # what a form may have beside its file: boundaries, headers, parameters
STALLED_SECONDS = 60.0  # without a byte; whoever sends nothing holds a place that others wait for


async def receive_form(request: Request, path: Path, most_bytes: int) -> dict[str, list[str]]:
    """Write the form's `file` to `path`, and return its other fields, by name with all values of that name.

    Raises Refused: with 413 if the file is larger than most_bytes, 400 for what is no such form, 408 for one that
    stops coming, 499 if the client leaves.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Refused("the body has to be multipart/form-data with the recording as `file`", code="invalid_body")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most_bytes + AROUND_BYTES:
        raise too_large(most_bytes)
    with path.open("wb") as file:
        form = _Form(file, most_bytes)
        try:
            parser = MultipartParser(options[b"boundary"], form.callbacks(), max_size=float("inf"))
            received = 0
            async for piece in _pieces(request):
                received += len(piece)
                if received > most_bytes + AROUND_BYTES:
                    raise too_large(most_bytes)
                parser.write(piece)
            parser.finalize()
        except FormParserError:
            raise Refused("the form cannot be parsed; multipart/form-data would work", code="invalid_body") from None
    return form.finished()


def too_large(most_bytes: int) -> Refused:
    """For a file of more bytes than a server takes."""
    return Refused(
        f"the file is larger than {most_bytes / 1e6:g} MB, which is the most that this server takes; compress it "
        "(FLAC, Opus) or send it in pieces",
        status=413,
        code="file_too_large",
    )


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except ClientDisconnect:
            raise refused.gone() from None
        except TimeoutError:
            raise Refused(f"nothing came for {STALLED_SECONDS:g} s", status=408, code="timeout") from None
        yield piece


class _Form:
    """What the parser calls as it goes through the parts of a form."""

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._file, self._most_bytes = file, most_bytes
        self._fields: list[tuple[str, bytearray]] = []
        self._header, self._value = b"", b""
        self._disposition = b""
        self._into: bytearray | None = None  # of a field; None in the file
        self._files = self._file_bytes = self._field_bytes = 0
        self._complete = False

    def callbacks(self) -> "MultipartCallbacks":
        """By the parser's names."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def finished(self) -> dict[str, list[str]]:
        """Its fields. Raises Refused unless it is complete and has a file."""
        if not self._complete:
            raise Refused("the form ends in the middle", code="invalid_body")
        if not self._files:
            raise Refused("the form has no `file`; the recording would work as one", code="missing_file")
        fields: dict[str, list[str]] = {}
        for name, value in self._fields:
            try:
                fields.setdefault(name, []).append(value.decode())
            except UnicodeDecodeError:
                raise Refused(f"{name} is not UTF-8", code="invalid_body") from None
        return fields

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", errors="replace")[:100]
        if not name:
            raise Refused("a part of the form has no name", code="invalid_body")
        self._into = None
        if b"filename" in options or name == "file":
            if name != "file" or b"filename" not in options or self._files:
                raise Refused(f"{name}: one file, named `file`, would work", code="invalid_body")
            self._files = 1
            return
        self._into = bytearray()
        self._fields.append((name, self._into))
        if len(self._fields) > MOST_FIELDS:
            raise Refused(f"the form has more than {MOST_FIELDS} fields", code="invalid_body")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._into is None:
            self._file_bytes += end - start
            if self._file_bytes > self._most_bytes:
                raise too_large(self._most_bytes)
            self._file.write(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > MOST_FIELD_BYTES:
            raise Refused(f"the parameters are longer than {MOST_FIELD_BYTES} bytes", code="invalid_body")
        self._into += data[start:end]

    def _on_end(self) -> None:
        self._complete = True
