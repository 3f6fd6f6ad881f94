"""A server that does what the Hugging Face Hub does where models are sent and fetched; it keeps all in memory."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeHub(ThreadingHTTPServer):
    """``repositories``: the files of each by name, ``requests``: what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def commit_of(files: dict[str, bytes]) -> str:
    """The id of the only commit: 40 hexadecimal digits."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(f"POST {self.path}")
        name = re.match(r"/api/models/([^/]+/[^/]+)/", self.path)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            full = f"{asked.get('organization') or 'ada'}/{asked['name']}"
            self.server.repositories.setdefault(full, {})
            self._json({"url": f"{self.server.url}/{full}", "name": full})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif name and "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._json({"files": [file | {"shouldIgnore": False} for file in files]})
        elif name and "/commit/" in self.path:
            files = self.server.repositories[name[1]]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server.url}/{name[1]}/commit/{commit_of(files)}"
            self._json({"commitUrl": url, "commitOid": commit_of(files), "success": True})
        else:
            self._json({"error": "not known"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        found = re.match(r"/(?:api/models/)?([^/]+/[^/]+)/(revision|tree|resolve)/[^/?]+/?([^?]*)", self.path)
        files = self.server.repositories.get(found[1]) if found else None
        if found is None or files is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif found[2] == "revision":
            self._json({"id": found[1], "sha": commit_of(files), "siblings": [{"rfilename": path} for path in files]})
        elif found[2] == "tree":
            entries = [
                {"type": "file", "path": path, "size": len(files[path]), "oid": _etag(files[path])} for path in files
            ]
            self._json(entries)
        else:
            content = files[found[3]]
            self._send(content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit_of(files)})

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}, status)

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
