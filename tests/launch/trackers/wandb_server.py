"""A W&B server on the loopback interface that keeps the history of runs, as wandb's own programs send it."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Server:
    """`with Server() as server`. environment: with which wandb talks to it, and to nothing else.

    history: {run_id: its rows, in the order in which they came}. runs: {run_id: what was last said of it: config, tags,
    groupName ...}. artifacts: what was said of each.
    """

    def __init__(self):
        self.history, self.runs, self.artifacts = {}, {}, []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.environment = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "k" * 40, "WANDB_ERROR_REPORTING": "false"}

    def __enter__(self):
        Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, request: dict) -> dict:
        if stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            self._streamed(stream[1], request)
            return {}
        operation = re.match(r"\s*(?:query|mutation)\s+(\w+)", request.get("query", ""))
        answer = getattr(self, f"_{operation[1]}", None) if operation else None
        return {"data": answer(request.get("variables", {})) if answer else {"project": None}}

    def _streamed(self, run_id: str, request: dict) -> None:
        """Lines of the history, from a line number on, which may be sent again."""
        part = request.get("files", {}).get("wandb-history.jsonl")
        if part is not None:
            self.history.setdefault(run_id, [])[part["offset"] :] = map(json.loads, part["content"])

    def _ServerFeaturesQuery(self, _):
        return {"serverInfo": {"features": []}}

    def _Viewer(self, _):
        return {"viewer": {"id": "1", "username": "me", "entity": "us", "flags": "{}", "teams": {"edges": []}}}

    def _RunResumeStatus(self, variables):
        run_id = variables["name"]
        model = {"id": "p", "name": "p", "entity": {"id": "e", "name": "us"}, "bucket": None}
        if rows := self.history.get(run_id):
            config = self.runs[run_id].get("config") or "{}"
            model["bucket"] = self._bucket(run_id) | {
                "historyLineCount": len(rows),
                "historyTail": json.dumps([json.dumps(rows[-1])]),
                "summaryMetrics": json.dumps(rows[-1]),
                "eventsLineCount": 0,
                "eventsTail": "[]",
                "logLineCount": 0,
                "config": config,
                "wandbConfig": json.dumps({"t": 1}),
                "tags": self.runs[run_id].get("tags") or [],
                "state": "finished",
            }
        return {"model": model}

    def _UpsertBucket(self, variables):
        known = self.runs.setdefault(variables["name"], {})
        inserted = not known
        known |= {name: value for name, value in variables.items() if value is not None}
        return {"upsertBucket": {"bucket": self._bucket(variables["name"]), "inserted": inserted}}

    def _bucket(self, run_id: str) -> dict:
        project = {"id": "p", "name": self.runs[run_id].get("project", "p"), "entity": {"id": "e", "name": "us"}}
        about = {"id": run_id, "name": run_id, "displayName": run_id, "project": project, "sweepName": None}
        return about | {"description": "", "config": "{}", "historyLineCount": len(self.history.get(run_id, []))}

    def _CreateArtifact(self, variables):
        """The server has the files already, so none is uploaded."""
        self.artifacts.append(variables["input"])
        sequence = {"id": "s", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}}

    def _CreateRunFiles(self, variables):
        files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}


def _handler(server: Server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = json.dumps(server.answer(self.path, json.loads(content or "{}"))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_PUT(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    return Handler
