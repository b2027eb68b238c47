"""OpenAI's files and batches endpoints on loopback, beside the chat of ``llm_server``: what a provider keeps, and how it ends."""

import email
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from star_pipeline_tests.llm_server import ChatServer, Reply, Script, _Handler, completion, serving


@dataclass(frozen=True)
class Fate:
    """How a batch ends: after so many looks or seconds, with so many of its requests answered (None: all), and errors of the whole."""

    status: str = "completed"
    answered: int | None = None
    errors: tuple[dict[str, Any], ...] = ()
    looks: int = 1
    after_s: float = 0.0


@dataclass
class Kept:
    """A batch as the provider has it."""

    id: str
    file: str
    metadata: dict[str, str]
    fate: Fate
    lines: list[dict[str, Any]]
    at: float = field(default_factory=time.time)
    looks: int = 0


class BatchServer(ChatServer):
    """``batches`` are those created, in order; ``fate`` decides how the n-th ends (from 0). ``asked`` are the bodies of all lines.

    ``meanwhile`` is called with the name of each call (file, batch, list, look, content) once it has taken effect and before it is
    answered. ``without`` names calls that it does not know.
    """

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.RequestHandlerClass = _BatchHandler
        self.batches: list[Kept] = []
        self.files: dict[str, bytes] = {}
        self.fate: Callable[[int], Fate] = lambda number: Fate()
        self.meanwhile: Callable[[str], None] = lambda call: None
        self.calls: list[str] = []
        self.without: set[str] = set()
        self.seen: list[dict[str, Any]] = []
        """(path, Authorization, api-key) of every call but chats."""

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [line["body"] for batch in self.batches for line in batch.lines]

    @property
    def keys(self) -> list[str]:
        return [line["custom_id"] for batch in self.batches for line in batch.lines]

    def create(self, said: dict[str, Any]) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.files[said["input_file_id"]].splitlines()]
        with self.guard:
            number = len(self.batches)
            kept = Kept(f"batch_{number}", said["input_file_id"], said.get("metadata") or {}, self.fate(number), lines)
            self.batches.append(kept)
        return self.told(kept)

    def told(self, kept: Kept) -> dict[str, Any]:
        fate = kept.fate
        done = kept.looks >= fate.looks and time.time() - kept.at >= fate.after_s
        status = fate.status if done else "in_progress"
        told: dict[str, Any] = {
            "id": kept.id, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": kept.file, "completion_window": "24h",
            "status": status, "created_at": int(kept.at), "metadata": kept.metadata, "errors": None, "output_file_id": None,
            "error_file_id": None, "request_counts": {"total": len(kept.lines), "completed": 0, "failed": 0},
        }  # fmt: skip  # read as a table
        if done and status == "failed":
            told["errors"] = {"object": "list", "data": list(fate.errors)}
        elif done:
            output, errors = self._results(kept)
            for name, lines in (("output_file_id", output), ("error_file_id", errors)):
                if lines:
                    told[name] = f"{kept.id}_{name}"
                    self.files[told[name]] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            told["request_counts"] |= {"completed": len(output), "failed": len(errors)}
            told[f"{status}_at"] = int(kept.at) + 7
        return told

    def _results(self, kept: Kept) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The lines of both files, the last request first: the order says nothing."""
        output: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        answered = len(kept.lines) if kept.fate.answered is None else kept.fate.answered
        for number, line in enumerate(kept.lines):
            result: dict[str, Any] = {
                "id": f"batch_req_{number}",
                "custom_id": line["custom_id"],
                "response": None,
                "error": None,
            }
            if number >= answered:
                code = f"batch_{kept.fate.status}"
                errors.insert(0, {**result, "error": {"code": code, "message": "This request was not executed."}})
                continue
            said = self.script(line["body"])
            reply = Reply(said) if isinstance(said, str) else said
            body = (
                completion(line["body"], reply)
                if reply.status == 200
                else {"error": {"message": reply.text or "scripted"}}
            )
            result["response"] = {"status_code": reply.status, "request_id": "r", "body": body}
            (output if reply.status == 200 else errors).insert(0, result)
        return output, errors


class _BatchHandler(_Handler):
    server: BatchServer

    def do_GET(self) -> None:
        path = self._path()
        if path == "/batches":
            self._answer("list", self._listed)
        elif found := re.fullmatch(r"/batches/(\w+)", path):
            self._answer("look", lambda: self._looked(found[1]))
        elif found := re.fullmatch(r"/files/(\w+)/content", path):
            self._answer("content", lambda: self.server.files.get(found[1]))
        else:
            super().do_GET()

    def do_POST(self) -> None:
        path = self._path()
        if path not in ("/files", "/batches"):
            super().do_POST()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "/files":
            self._answer("file", lambda: self._uploaded(body))
        else:
            self._answer("batch", lambda: self.server.create(json.loads(body)))

    def _path(self) -> str:
        """Without what stands before, which is /v1 at OpenAI's and /openai at Azure's, and without the query."""
        return re.sub(r"^/(openai/)?(v1/)?", "/", self.path.split("?")[0])

    def _answer(self, call: str, work: Callable[[], Any]) -> None:
        with self.server.guard:
            self.server.calls.append(call)
            self.server.seen.append(
                {"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}
            )
        if call in self.server.without:
            self._send(404, b'{"error": {"message": "no such path"}}', {})
            return
        told = work()
        self.server.meanwhile(call)
        if told is None:
            self._send(404, b'{"error": {"message": "No such object"}}', {})
        else:
            self._send(200, told if isinstance(told, bytes) else json.dumps(told).encode(), {})

    def _uploaded(self, body: bytes) -> dict[str, Any]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part
            for part in email.message_from_bytes(head + body).get_payload()
        }
        content = parts["file"].get_payload(decode=True)
        with self.server.guard:
            name = f"file_{len(self.server.files)}"
            self.server.files[name] = content
        return {
            "id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": "requests.jsonl", "purpose": "batch",
            "status": "processed",
        }  # fmt: skip  # read as a table

    def _listed(self) -> dict[str, Any]:
        """Two at a time, the newest first, so that whoever looks for one has to turn pages."""
        found = re.search(r"after=(\w+)", self.path)
        listed = list(reversed(self.server.batches))
        if found:
            names = [kept.id for kept in listed]
            listed = listed[names.index(found[1]) + 1 :]
        told = [self.server.told(kept) for kept in listed[:2]]
        return {"object": "list", "data": told, "has_more": len(listed) > 2}

    def _looked(self, name: str) -> dict[str, Any] | None:
        for kept in self.server.batches:
            if kept.id == name:
                kept.looks += 1
                return self.server.told(kept)
        return None


@contextmanager
def batch_server(script: Script) -> Iterator[BatchServer]:
    """A running server on a free port of loopback."""
    with serving(BatchServer(script)) as server:
        yield server
