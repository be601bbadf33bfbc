"""A fake Kubernetes API server over HTTP for JobSets only. It checks them strictly by the CRD; it fails if told."""

import functools
import gzip
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import jsonschema
import yaml

CRD = Path(__file__).parents[4] / "shared" / "data" / "jobset_crd.yaml.gz"
PODS = re.compile(r"/api/v1/namespaces/[a-z0-9-]+/pods(?:/([a-z0-9-]+)/log)?")
PATH = re.compile(r"/apis/jobset\.x-k8s\.io/v1alpha2/namespaces/([a-z0-9-]+)/jobsets(?:/([a-z0-9-]+))?")
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def strict(schema):
    """The structural schema as a JSON schema that refuses unknown fields, as the API server does."""
    schema = dict(schema)
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        return schema | {"type": ["integer", "string"]}
    free = schema.pop("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in schema:
        schema["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
        if not free:
            schema.setdefault("additionalProperties", False)
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        schema["items"] = strict(schema["items"])
    return schema


@functools.cache
def validator():
    crd = yaml.safe_load(gzip.decompress(CRD.read_bytes()))
    [version] = [v for v in crd["spec"]["versions"] if v["name"] == "v1alpha2"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    text = {"type": "object", "additionalProperties": {"type": "string"}}
    metadata = {"name": {"type": "string"}, "namespace": {"type": "string"}, "labels": text, "annotations": text}
    schema["properties"]["metadata"] = {"type": "object", "properties": metadata, "additionalProperties": False}
    return jsonschema.Draft202012Validator(schema)


class Server:
    """objects: name -> JobSet. faults: what the next requests meet, in order: a status to answer instead, or "lost":
    the request is carried out and its answer cut off. log: "METHOD name"."""

    def __init__(self):
        self.objects, self.faults, self.log, self.created = {}, [], [], []
        self.check = validator() if CRD.exists() else jsonschema.Draft202012Validator({})
        handler = type("Handler", (_Handler,), {"server_state": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, method, name, query, body):
        """(status, object)"""
        if method == "POST":
            errors = [error.message for error in self.check.iter_errors(body)]
            name = body["metadata"]["name"]
            if errors or not DNS_1035.fullmatch(name):
                return 422, {"message": "; ".join(errors)}
            if name in self.objects:
                return 409, {"reason": "AlreadyExists"}
            self.objects[name] = body | {"status": {}}
            self.objects[name]["metadata"]["uid"] = uuid.uuid4().hex
            self.created.append(name)
            return 201, self.objects[name]
        if method == "GET":
            names = sorted(self.objects)
            first, limit = int(query.get("continue", ["0"])[0]), int(query.get("limit", ["500"])[0])
            more = str(first + limit) if first + limit < len(names) else ""
            page = [self.objects[name] for name in names[first : first + limit]]
            return 200, {"items": page, "metadata": {"continue": more}}
        if name not in self.objects:
            return 404, {"reason": "NotFound"}
        if body["preconditions"]["uid"] != self.objects[name]["metadata"]["uid"]:
            return 409, {"reason": "Conflict"}
        del self.objects[name]
        return 200, {"status": "Success"}

    def end(self, name, kind, reason=""):
        condition = {"type": kind, "status": "True", "reason": reason, "message": reason}
        self.objects[name]["status"] = {"conditions": [condition]}

    def runs(self, name):
        self.objects[name]["spec"]["suspend"] = False
        self.objects[name]["status"] = {"replicatedJobsStatus": [{"name": "w", "active": 1}]}


class _Handler(BaseHTTPRequestHandler):
    server_state: Server

    def _any(self):
        state, url = self.server_state, urlparse(self.path)
        if pods := PODS.fullmatch(url.path):
            return self._pods(state, pods[1], parse_qs(url.query))
        match = PATH.fullmatch(url.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        state.log.append(f"{self.command} {match[2] or body.get('metadata', {}).get('name', '')}".strip())
        fault = state.faults.pop(0) if state.faults else None
        if isinstance(fault, int):
            return self._send(fault, {"message": "a bad day"})
        status, value = state.answer(self.command, match[2], parse_qs(url.query), body)
        if fault == "lost":
            self.close_connection = True
            return self.connection.close()
        return self._send(status, value)

    def _pods(self, state, name, query):
        if name:
            return self._send(200, f"first\nlast words of {name}")
        wanted = dict(term.split("=") for term in query["labelSelector"][0].split(","))
        name = wanted["jobset.sigs.k8s.io/jobset-name"]
        pods = (
            [{"metadata": {"name": f"{name}-w-0-0-abcde"}, "spec": {"containers": []}}] if name in state.objects else []
        )
        return self._send(200, {"kind": "PodList", "apiVersion": "v1", "items": pods})

    def _send(self, status, value):
        raw = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_DELETE = _any

    def log_message(self, *args):
        pass
