"""A stand-in for the Hugging Face hub on loopback: the endpoints that creating a data set repository and committing to it ask."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAY_WRITE, MAY_READ = "hf_may_write", "hf_may_read"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1("\n".join(["made", *self.commits]).encode()).hexdigest()


@dataclass
class Hub:
    """What was asked for and what is there. Names that end in ``large`` go by LFS; ``failing`` commits are answered with 500."""

    address: str = ""
    large: tuple[str, ...] = ()
    failing: int = 0
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    created: list[Any] = field(default_factory=list)

    def post(self, path: str, body: bytes, token: str) -> tuple[int, Any]:
        if token != MAY_WRITE:
            return (
                (403, {"error": "no right"}) if token == MAY_READ else (401, {"error": "Invalid username or password."})
            )
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._object(one) for one in json.loads(body)["objects"]]}
        name = "/".join(path.split("/")[3:5])
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        if "/preupload/" in path:
            return 200, {
                "files": [self._mode(self.repositories[name], one["path"]) for one in json.loads(body)["files"]]
            }
        return self._commit(name, [json.loads(line) for line in body.splitlines()])

    def _create(self, asked: Any) -> tuple[int, Any]:
        self.created.append(asked)
        name = f"{asked['organization']}/{asked['name']}"
        there = name in self.repositories
        self.repositories.setdefault(name, Repository(asked["visibility"] == "private"))
        return (409 if there else 200), {"url": f"{self.address}/datasets/{name}", "name": name}

    def _object(self, asked: Any) -> Any:
        there = asked["oid"] in self.objects
        return {
            **asked,
            **({} if there else {"actions": {"upload": {"href": f"{self.address}/objects/{asked['oid']}"}}}),
        }

    def _mode(self, repository: Repository, path: str) -> Any:
        lfs, content = path.endswith(self.large) if self.large else False, repository.files.get(path)
        told = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        if content is None:
            return told
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {**told, "oid": hashlib.sha256(content).hexdigest() if lfs else blob}

    def _commit(self, name: str, lines: list[Any]) -> tuple[int, Any]:
        if self.failing:
            self.failing -= 1
            return 500, {"error": "the hub has a bad day"}
        repository = self.repositories[name]
        for line in lines:
            told = line["value"]
            if line["key"] == "header":
                repository.commits.append(told["summary"])
            elif line["key"] == "file":
                repository.files[told["path"]] = base64.b64decode(told["content"])
            else:
                assert line["key"] == "lfsFile"
                assert len(self.objects[told["oid"]]) == told["size"]
                repository.files[told["path"]] = self.objects[told["oid"]]
        return 200, {
            "commitUrl": f"{self.address}/datasets/{name}/commit/{repository.sha}",
            "commitOid": repository.sha,
        }

    def get(self, path: str) -> tuple[int, Any]:
        name = path.removeprefix("/api/datasets/").partition("/revision/")[0]
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        repository = self.repositories[name]
        told = {
            "_id": "1",
            "id": name,
            "sha": repository.sha,
            "private": repository.private,
            "tags": [],
            "siblings": [],
        }
        return 200, {**told, "disabled": False, "gated": False, "downloads": 0, "likes": 0}


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    """The hub at ``address`` until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, told: Any) -> None:
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _body(self) -> bytes:
            hub.asked.append(f"{self.command} {self.path.partition('?')[0]}")
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_POST(self) -> None:
            body = self._body()
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self._answer(*hub.post(self.path.partition("?")[0], body, token))

        def do_GET(self) -> None:
            self._body()
            self._answer(*hub.get(self.path.partition("?")[0]))

        def do_PUT(self) -> None:
            content = self._body()
            assert hashlib.sha256(content).hexdigest() == self.path.rpartition("/")[2]
            hub.objects[self.path.rpartition("/")[2]] = content
            self._answer(200, {})

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
