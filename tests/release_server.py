"""A small GitHub on this machine: one release with files, and faults that can be switched on."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

RELEASE = "/repos/oraclefina/MSPI/releases/tags/v1.0.0"


@dataclass
class GitHub:
    """State of the server; tests change it while it runs.

    Attributes:
        files: content by name.
        fault: "", "limit" (asked too often), "gone" (no release), "broken" (error 500), "cut"
            (connections drop in the middle, for ever), "cut once", "short" (the body ends early,
            and says so), "altered" (right size, wrong content), "html" (a page in place of JSON).
        digests: whether the release tells sha256 sums.
        tags: whether it names versions of files (ETag).
        conditions: whether it minds If-Range.
        requests: "METHOD path", with " from N" where a part was asked for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    fault: str = ""
    digests: bool = True
    tags: bool = True
    conditions: bool = True
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def assets(self) -> list[dict]:
        return [
            {
                "name": name,
                "size": len(content),
                "digest": f"sha256:{hashlib.sha256(content).hexdigest()}" if self.digests else None,
                "browser_download_url": f"{self.url}/download/{name}",
            }
            for name, content in self.files.items()
        ]


class Handler(BaseHTTPRequestHandler):
    """One request; the state is the server's `github`."""

    protocol_version = "HTTP/1.1"

    @property
    def github(self) -> GitHub:
        return self.server.github

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(self.path)
        start = self.headers.get("Range", "")
        start = start.removeprefix("bytes=").removesuffix("-")
        self.github.requests.append(f"GET {path}" + (f" from {start}" if start else ""))
        if path == RELEASE:
            return self._release()
        name = path.removeprefix("/download/")
        if name not in self.github.files:
            return self._send(404, b"")
        return self._file(self.github.files[name], int(start or 0))

    def _release(self) -> None:
        fault = self.github.fault
        if fault == "limit":
            headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000000"}
            return self._send(403, b'{"message": "API rate limit exceeded"}', headers)
        if fault in ("gone", "broken"):
            return self._send(404 if fault == "gone" else 500, b"{}")
        if fault == "html":
            return self._send(200, b"<html>")
        return self._send(200, json.dumps({"assets": self.github.assets()}).encode())

    def _file(self, content: bytes, start: int) -> None:
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        if self.github.conditions and self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(content):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        body, fault = content[start:], self.github.fault
        if fault == "short":
            body = body[: len(body) // 2]
        if fault == "altered":
            body = body[:-1] + bytes([body[-1] ^ 1])
        headers = {"ETag": tag} if self.github.tags else {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(206 if start else 200, body, headers, cut=fault.startswith("cut"))

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True
            if self.github.fault == "cut once":
                self.github.fault = ""


@contextmanager
def running_github() -> Iterator[GitHub]:
    """Run the server on a free port of the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    github = server.github = GitHub(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield github
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
