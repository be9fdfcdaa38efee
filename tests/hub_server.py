"""A small Hugging Face Hub on this machine: as much of its protocol as the real client uses.

Downloads (`/{repo}/resolve/{revision}/{file}`) and uploads (preupload, LFS batch, LFS object,
commit), with faults that can be switched on.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPO = "someone/maps"
COMMIT = "c0ffee" + "0" * 34
OLD_COMMIT = "0ddba11" + "0" * 33


@dataclass
class Hub:
    """State of the server; tests change it while it runs.

    Attributes:
        files: content by revision and file name; each revision also answers under its commit.
        fault: "", "short" (body ends early, and says so), "cut" (connection drops in the middle of
            the first answer), "altered" (right size, wrong content), "gated", "broken" (error 500).
        token: what a client must send to write.
        requests: "METHOD path" of everything that was asked.
    """

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    fault: str = ""
    token: str = "hf_may_write"
    requests: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)  # uploaded, by sha256
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "old": OLD_COMMIT})
    url: str = ""

    def find(self, revision: str, name: str) -> tuple[str, bytes | None] | None:
        """Commit and content; None without that revision, content None without that file."""
        for branch, commit in self.commits.items():
            if revision in (branch, commit):
                return commit, self.files.get((branch, name))
        return None

    def downloads(self) -> int:
        """How often a file's content was asked for."""
        return sum(line.startswith("GET ") and "/resolve/" in line for line in self.requests)


class Handler(BaseHTTPRequestHandler):
    """One request; the Hub's state is the server's `hub`."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._resolve(with_body=False)

    def do_GET(self) -> None:
        self._resolve(with_body=True)

    def _resolve(self, with_body: bool) -> None:
        path = self._noted_path()
        repo, found, rest = path.strip("/").partition("/resolve/")
        if not found or repo != REPO:
            return self._refuse(401, "RepoNotFound", "Repository not found")
        if self.hub.fault == "gated":
            return self._refuse(403, "GatedRepo", "Access to model is restricted")
        if self.hub.fault == "broken":
            return self._refuse(500, "", "Internal error")
        revision, _, name = rest.partition("/")
        answer = self.hub.find(revision, name)
        if answer is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        commit, content = answer
        if content is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        return self._send_file(commit, content, with_body)

    def _send_file(self, commit: str, content: bytes, with_body: bool) -> None:
        start = self._range_start()
        body, fault = content[start:], self.hub.fault if with_body else ""
        if fault == "short":
            body = body[: len(body) // 2]
        if fault == "altered":
            body = body[:-1] + bytes([body[-1] ^ 1])
        sha256 = hashlib.sha256(content).hexdigest()
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{sha256}"')
        self.send_header("X-Linked-ETag", f'"{sha256}"')
        self.send_header("X-Linked-Size", str(len(content)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "cut":
            self.hub.fault = ""
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif with_body:
            self.wfile.write(body)

    def _range_start(self) -> int:
        asked = self.headers.get("Range", "bytes=0-")
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def do_POST(self) -> None:
        path = self._noted_path()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._refuse(403, "", "You don't have the rights to write")
        if path == f"/api/models/{REPO}/preupload/main":
            return self._send_json({"files": [_large(file) for file in json.loads(body)["files"]]})
        if path == f"/{REPO}.git/info/lfs/objects/batch":
            return self._send_json(self._upload_places(json.loads(body)["objects"]))
        if path == f"/api/models/{REPO}/commit/main":
            return self._commit([json.loads(line) for line in body.splitlines()])
        if path == "/api/repos/create":
            return self._send_json({"url": f"{self.hub.url}/{REPO}", "name": REPO})
        return self._refuse(401, "RepoNotFound", "Repository not found")

    def do_PUT(self) -> None:
        oid = self._noted_path().rpartition("/")[2]
        self.hub.objects[oid] = self.rfile.read(int(self.headers["Content-Length"]))
        self._send_json({})

    def _upload_places(self, objects: list[dict]) -> dict:
        places = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}}
            for each in objects
        ]
        return {"transfer": "basic", "objects": places}

    def _commit(self, lines: list[dict]) -> None:
        for line in lines:
            if line["key"] == "lfsFile":
                value = line["value"]
                self.hub.files["main", value["path"]] = self.hub.objects[value["oid"]]
        url = f"{self.hub.url}/{REPO}/commit/{COMMIT}"
        self._send_json({"commitUrl": url, "commitOid": COMMIT})

    def _noted_path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        return path

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(
        self, status: int, code: str, text: str, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"X-Error-Code": code, "X-Error-Message": text, **(more or {})}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _large(file: dict) -> dict:
    return {"path": file["path"], "uploadMode": "lfs", "shouldIgnore": False}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run the server on a free port of the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = server.hub = Hub(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
