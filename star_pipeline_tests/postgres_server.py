"""A throwaway PostgreSQL on loopback, from Debian's binaries, which can be killed and started again; skips say what is missing."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from star_pipeline_tests.elsewhere import kill
from star_pipeline_tests.ports import free_port

USER = "postgres"
_START_S, _STOP_S = 300.0, 60.0


def missing() -> str:
    """Why there can be no server here, with the remedy; empty where there can."""
    if importlib.util.find_spec("psycopg2") is None:
        return 'psycopg2 is not installed: pip install "star-pipeline[postgres]"'
    if _binaries() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    return ""


class PostgresServer:
    """Its own data in a folder of its own, one user ``postgres`` without a password; at the same port after each start.

    ``durable`` is what a server is in earnest: a commit is on disk. Without it a power cut loses some, a killed server none.
    """

    def __init__(self, durable: bool = False) -> None:
        binaries = _binaries()
        assert binaries is not None, missing()
        self._binaries, self._durable = binaries, durable
        self._who = _who()
        # not below pytest's own folder, which the server's user may not enter
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=tempfile.gettempdir()))
        if self._who is not None:
            os.chown(self.folder, self._who, pwd.getpwuid(self._who).pw_gid)
        self.data, self.log = self.folder / "data", self.folder / "server.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        made = self._run("initdb", "-D", self.data, "-U", USER, "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8")
        if made.wait(_START_S):
            raise RuntimeError(f"initdb failed: {self.log.read_text('utf-8', 'replace')[-2000:]}")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def url(self, database: str = "postgres", scheme: str = "postgresql") -> str:
        return f"{scheme}://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns once it answers."""
        if self.running:
            return
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "max_connections": 300,
            "shared_buffers": "32MB",
            "log_min_messages": "fatal",
            **({} if self._durable else {"fsync": "off"}),
        }
        self._process = self._run(
            "postgres",
            "-D",
            self.data,
            *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
        )
        until = time.monotonic() + _START_S
        while True:
            try:
                self.query("SELECT 1")
                return
            except Exception as error:
                if not self.running or time.monotonic() > until:
                    self.kill()
                    told = self.log.read_text("utf-8", "replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL did not start ({error}): {told}") from error
            time.sleep(0.02)

    def stop(self) -> None:
        """As an administrator would: sessions are ended, all is written."""
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        self.kill()

    def kill(self) -> None:
        """As a machine dies: every process of it at once, nothing is tidied up; returns when they are gone."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            kill(
                psutil.Process(self._process.pid)
            )  # all are gone by then: a server does not start while one holds its memory
        self._process.wait()
        self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def query(self, sql: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """A statement of the test's own, in a connection of its own, with ``%s`` for each value; the rows, if it has any."""
        import psycopg2

        with self._connected(psycopg2, database) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """The URL of a new, empty database."""
        self.start()
        name = f"star_{uuid.uuid4().hex[:12]}"
        self.query(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextmanager
    def _connected(self, psycopg2: Any, database: str) -> Iterator[Any]:
        connection = psycopg2.connect(self.url(database), connect_timeout=60, application_name="the test")
        try:
            connection.autocommit = True
            yield connection
        finally:
            connection.close()

    def _run(self, program: str, *arguments: object) -> "subprocess.Popen[bytes]":
        """Ends with the test's process, and not at its Ctrl-C; never as root, which PostgreSQL refuses."""
        command = [str(self._binaries / program), *map(str, arguments)]
        if guard := shutil.which("setpriv"):
            command = [guard, "--pdeathsig", "QUIT", *command]
        as_user: dict[str, Any] = {}
        if self._who is not None:
            as_user = {"user": self._who, "group": pwd.getpwuid(self._who).pw_gid, "extra_groups": []}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **as_user,
            )


@contextmanager
def serving(durable: bool = False) -> Iterator[PostgresServer]:
    """A server that runs within the block."""
    server = PostgresServer(durable)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of a process; who stops it starts it again. Skipped where PostgreSQL cannot be had."""
    if why := missing():
        pytest.skip(why)
    with serving() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """A new database on it."""
    return postgres.database()


def _binaries() -> Path | None:
    """The folder of the newest server's programs: Debian keeps them off the PATH."""
    homes = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: [int(n) for n in path.parent.name.split(".")]
    )
    found = [path for path in homes if (path / "initdb").exists()]
    on_path = shutil.which("initdb")
    return found[-1] if found else Path(on_path).resolve().parent if on_path else None


def _who() -> int | None:
    """The user to be where we are root; None where we may stay who we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")
