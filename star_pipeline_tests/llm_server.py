"""An OpenAI-compatible chat server on loopback, scripted by a function from request to reply."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeVar


@dataclass(frozen=True)
class Reply:
    """What the server says: an HTTP status, and for 200 the text and the finish reason; ``body`` replaces the whole.

    ``logprobs``: the likeliest first tokens, told to those who ask. ``breaks``: the connection is reset before the reply, or closed
    after half of it, or nothing is said until the client hangs up.
    """

    text: str = ""
    status: int = 200
    finish_reason: str = "stop"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay_s: float = 0.0
    logprobs: dict[str, float] | None = None
    breaks: Literal["", "reset", "half", "silence"] = ""


S = TypeVar("S", bound=ThreadingHTTPServer)
Script = Callable[[dict[str, Any]], Reply | str]


class ChatServer(ThreadingHTTPServer):
    """``requests`` are the parsed bodies received, in order; ``most_at_once`` is the peak of concurrent requests.

    ``models`` is what it lists as its own, to those who bring ``key`` (an Authorization) where one is set; ``sends_on`` is where
    it sends them instead, ``listed`` how often it was asked. ``pages`` are what else it tells, by path.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = [{"id": "m", "object": "model"}]
        self.active = self.most_at_once = self.listed = 0
        self.key = self.sends_on = ""
        self.pages: dict[str, Reply] = {}
        self.guard = threading.Lock()
        self._connections: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.guard:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.guard:
            self._connections.discard(request)

    def settle(self, patience_s: float = 300.0) -> None:
        """Wait until all that clients which are gone had sent is among the ``requests``, and nobody is answered any more.

        What a client has sent may still be on its way to here when it is dead. One that lives keeps its connection, and is waited for.
        """
        until = time.monotonic() + patience_s
        # connections are taken in the order in which they came: with this one all that were made before it
        with socket.create_connection(self.server_address[:2], timeout=patience_s) as last:
            last.sendall(b"GET /settle HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            while last.recv(1000):
                pass
        while self._connections:
            assert time.monotonic() < until, "somebody still talks with the server"
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of some tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_GET(self) -> None:
        if not self.path.startswith("/v1"):
            page = self.server.pages.get(self.path, Reply(status=404))
            self._send(page.status, page.text.encode(), page.headers)
            return
        with self.server.guard:
            self.server.listed += 1
        if self.server.sends_on:
            self._send(302, b"", {"Location": self.server.sends_on})
            return
        if self.server.key and self.headers.get("Authorization") != self.server.key:
            self._send(401, b'{"error": {"message": "who are you?"}}', {})
            return
        self._send(200, json.dumps({"object": "list", "data": self.server.models}).encode(), {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked["authorization"], asked["path"] = self.headers.get("Authorization"), self.path
        with self.server.guard:
            self.server.requests.append(asked)
            self.server.active += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.active)
        try:
            said = self.server.script(asked)
            reply = Reply(said) if isinstance(said, str) else said
            if reply.delay_s:
                threading.Event().wait(reply.delay_s)
        finally:
            with self.server.guard:
                self.server.active -= 1
        if reply.breaks == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif reply.breaks == "half":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"id": ')
            self.close_connection = True
        elif reply.breaks == "silence":
            self.rfile.read(1)
            self.close_connection = True
        elif reply.body is not None:
            self._send(reply.status, reply.body, reply.headers)
        elif reply.status != 200:
            self._send(
                reply.status,
                json.dumps({"error": {"message": f"scripted {reply.status}", "code": reply.status}}).encode(),
                reply.headers,
            )
        else:
            self._send(200, json.dumps(completion(asked, reply)).encode(), reply.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


def completion(asked: dict[str, Any], reply: Reply) -> dict[str, Any]:
    prompt = sum(len(str(message["content"]).split()) for message in asked["messages"])
    choice: dict[str, Any] = {"index": 0, "finish_reason": reply.finish_reason}
    if asked.get("logprobs") and reply.logprobs:
        likely = sorted(reply.logprobs.items(), key=lambda pair: -pair[1])[: asked.get("top_logprobs", 0)]
        told = [{"token": token, "logprob": logprob, "bytes": list(token.encode())} for token, logprob in likely]
        choice["logprobs"] = {"content": [{**told[0], "top_logprobs": told}]}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": asked["model"],
        "choices": [{**choice, "message": {"role": "assistant", "content": reply.text}}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": len(reply.text.split()),
            "total_tokens": prompt + len(reply.text.split()),
        },
    }


@contextmanager
def chat_server(script: Script) -> Iterator[ChatServer]:
    """A running server on a free port of loopback."""
    with serving(ChatServer(script)) as server:
        yield server


@contextmanager
def serving(server: S) -> Iterator[S]:
    """The server at work in a thread of its own, for as long as it is needed."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
