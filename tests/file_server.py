"""A web server on this machine that serves a folder, with or without parts of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit


class FileServer(ThreadingHTTPServer):
    """Serves the files of a folder.

    Attributes:
        address: "http://127.0.0.1:<port>".
        asked: the paths that were asked for, in order.
        parts: whether it sends parts of files, as most servers do.
    """

    daemon_threads = True

    def __init__(self, folder: Path, parts: bool = True) -> None:
        self.parts = parts
        super().__init__(("127.0.0.1", 0), partial(_Handler, folder))
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """FFmpeg hangs up whenever it has read enough."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, *args: object) -> None:
        self._folder = folder
        super().__init__(*args)

    def do_GET(self) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/")
        self.server.asked.append(self.path)
        file = self._folder / name
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        wanted = self.headers.get("Range") if self.server.parts else None
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.parts:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""


@contextmanager
def serving(folder: Path, parts: bool = True) -> Iterator[FileServer]:
    """Serve a folder for the time of a `with` block."""
    with FileServer(folder, parts) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
