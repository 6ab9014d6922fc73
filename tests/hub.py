"""A model hub on this machine: as much of the Hugging Face protocol as `snapshot_download` speaks.

A repository is a dict {commit: folder, "main": commit}; a test pushes by adding to it. Answers close the
connection (HTTP/1.0), so that a hub that was left is gone at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

Repositories = Mapping[str, Mapping[str, str | Path]]


@dataclass
class Hub:
    """Where the hub listens, and what it was asked: ("GET", "/owner/name/resolve/<commit>/config.json")."""

    endpoint: str
    requests: list[tuple[str, str]] = field(default_factory=list)

    def fetched(self) -> set[str]:
        """The names of the files whose content was sent."""
        return {path.split("/", 5)[5] for verb, path in self.requests if verb == "GET" and "/resolve/" in path}


@contextmanager
def serve(repositories: Repositories) -> Iterator[Hub]:
    """Serve the repositories on a free port of 127.0.0.1 until the block is left."""
    handler = type("Handler", (HubHandler,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    handler.hub = hub
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class MissingError(LookupError):
    """The hub's word for what is missing: RepoNotFound, RevisionNotFound or EntryNotFound."""


class HubHandler(BaseHTTPRequestHandler):
    """Three addresses: a revision's commit, a commit's files, a file."""

    repositories: Repositories
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, unquote(path)))
        try:
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
                self.send_listing(*map(unquote, found.groups()))
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.send_file(*map(unquote, found.groups()))
            else:
                raise MissingError("EntryNotFound")
        except MissingError as missing:
            self.send(404, b"{}", {"X-Error-Code": str(missing), "X-Error-Message": str(missing)})

    def send_listing(self, repo_id: str, kind: str, revision: str) -> None:
        commit, folder = self.snapshot(repo_id, revision)
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        names = [p.relative_to(folder).as_posix() for p in files]
        if kind == "revision":
            answer = {"id": repo_id, "sha": commit, "siblings": [{"rfilename": name} for name in names]}
        else:
            answer = [
                {"type": "file", "path": name, "size": p.stat().st_size, "oid": etag(p.read_bytes())}
                for name, p in zip(names, files, strict=True)
            ]
        self.send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def send_file(self, repo_id: str, revision: str, name: str) -> None:
        commit, folder = self.snapshot(repo_id, revision)
        if ".." in name.split("/") or not (folder / name).is_file():
            raise MissingError("EntryNotFound")
        content = (folder / name).read_bytes()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(content)}"', "Accept-Ranges": "bytes"}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part is None:
            self.send(200, content, headers)
            return
        first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
        if first > last:
            self.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.send(206, content[first : last + 1], headers)

    def snapshot(self, repo_id: str, revision: str) -> tuple[str, Path]:
        if repo_id not in self.repositories:
            raise MissingError("RepoNotFound")
        revisions = self.repositories[repo_id]
        commit = str(revisions["main"]) if revision == "main" else revision
        if commit not in revisions:
            raise MissingError("RevisionNotFound")
        return commit, Path(revisions[commit])

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Keep the tests' output clean."""


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
