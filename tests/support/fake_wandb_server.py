"""As much of W&B's server as its client asks for, on loopback: it keeps what it is sent, by the run's id."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class SentRun:
    """What the server was sent of a run."""

    project: str = ""
    group: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    """By key, each a mapping with its ``value``."""
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The history, by the line's number."""
    summary: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    exit_status: int | None = None

    def epochs(self) -> list[int]:
        """The epoch of each line of the history that has one."""
        return [line["epoch"] for _, line in sorted(self.lines.items()) if "epoch" in line]


class FakeWandbServer:
    """Answers until `die`, or until it has kept ``dies_with`` lines of a history. ``runs`` is what it has already."""

    def __init__(self, runs: dict[str, SentRun] | None = None, dies_with: int | None = None) -> None:
        self.runs: dict[str, SentRun] = {} if runs is None else runs
        self.dies_with, self.dead = dies_with, False
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def die(self) -> None:
        """Refuse connections, and answer nothing on those that are open."""
        self.dead = True
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """What the client wants to hear."""
        if path == "/graphql":
            asked = json.loads(body)
            return self._graphql(asked["query"], asked.get("variables") or {})
        if path.endswith("/file_stream"):
            self._keep(self.runs[path.split("/")[-2]], json.loads(body))
        return {}

    def _graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        me = {"id": "1", "name": "me"}
        if "query Viewer" in query:
            return {"data": {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}"}}}
        if "query RunResumeStatus" in query:
            sent = self.runs.get(variables["name"])
            bucket = sent and {
                "id": "1",
                "name": variables["name"],
                "summaryMetrics": json.dumps(sent.summary),
                "config": json.dumps(sent.config),
                "historyLineCount": len(sent.lines),
                "historyTail": json.dumps([json.dumps(sent.lines[number]) for number in sorted(sent.lines)[-1:]]),
                "eventsLineCount": 0,
                "eventsTail": "[]",
                "logLineCount": 0,
                "wandbConfig": '{"t": {}}',
            }
            return {"data": {"model": {"id": "1", "name": variables["project"], "entity": me, "bucket": bucket}}}
        if "mutation UpsertBucket" in query:
            new = variables["name"] not in self.runs
            sent = self.runs.setdefault(variables["name"], SentRun(project=variables["project"]))
            sent.group = variables["groupName"] or sent.group
            sent.config |= json.loads(variables["config"] or "{}")
            project = {"id": "1", "name": sent.project, "entity": me}
            bucket = {"id": "1", "name": variables["name"], "project": project, "historyLineCount": len(sent.lines)}
            return {"data": {"upsertBucket": {"inserted": new, "bucket": bucket}}}
        if "mutation CreateRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
            self.runs[variables["run"]].files += variables["files"]
            return {"data": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}}
        if "query ArtifactType" in query:
            return {"data": {"project": None}}
        return {"data": None, "errors": [{"message": "this server knows no such thing"}]}

    def _keep(self, run: SentRun, posted: dict[str, Any]) -> None:
        files = posted.get("files") or {}
        history = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        for number, line in enumerate(history["content"], start=history["offset"]):
            run.lines[number] = json.loads(line)
            if len(run.lines) == self.dies_with:
                self.die()
                return
        if "wandb-summary.json" in files:
            run.summary = json.loads(files["wandb-summary.json"]["content"][-1])
        if posted.get("complete"):
            run.exit_status = posted["exitcode"]


class _Http(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Silent: the clients of these tests are killed."""


def _handler(server: FakeWandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = b"" if server.dead else json.dumps(server.answer(self.path, body)).encode()
            if server.dead:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler
