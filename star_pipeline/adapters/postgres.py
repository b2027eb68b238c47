"""PostgreSQL: where it is, how it is reached, and what to say where it is not. ``psycopg2`` is imported when it is asked for."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_pipeline.core.errors import ConfigError, StorageTrouble

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # the class's own name is no class's

_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+psycopg2)?://")
_LEAST_VERSION = 12
_CONNECT_S, _GONE_S = 10, 30
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""s, s, times: who has vanished without a word is given up after 25 s, by the server too, so that what he held is free."""
_PATIENCE_S = 60
_EXTRA = 'pip install "star-pipeline[postgres]"'


@dataclass(frozen=True)
class Postgres:
    """A database, by its URL, and the environment variable that holds that."""

    url: str
    variable: str

    @classmethod
    def of(cls, variable: str) -> "Postgres":
        """What an environment variable names. Raises ConfigError, without telling a password."""
        url = os.environ.get(variable, "").strip()
        expected = "expected postgresql://user:password@host:port/database"
        if not url:
            raise ConfigError(f"journal.postgres_env: {variable} is not set in the environment; {expected} in it")
        if not _SCHEME.match(url):
            scheme = url.split("://")[0] if "://" in url else "no scheme"
            raise ConfigError(f"journal.postgres_env: {variable} holds no URL of psycopg2's ({scheme}); {expected}")
        return cls(_SCHEME.sub("postgresql://", url), variable)

    def __str__(self) -> str:
        """Without user and password."""
        try:
            parts = _psycopg2().extensions.parse_dsn(self.url)
        except Exception:  # its own kind of error, which repeats the URL
            return f"PostgreSQL of ${self.variable}"
        place = f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}/{parts.get('dbname', '')}"
        return f"PostgreSQL {place} (${self.variable})"

    def connect(self, name: str) -> "Connection":
        """A session in autocommit mode, called ``name`` in the server's list. Raises StorageTrouble, ConfigError."""
        psycopg2 = _psycopg2()
        with self.told():
            connection: Connection = psycopg2.connect(
                self.url,
                application_name=name[:63],
                connect_timeout=_CONNECT_S,
                keepalives=1,
                tcp_user_timeout=_GONE_S * 1000,
                **_KEEPALIVES,
            )
        try:
            connection.autocommit = True
            if connection.server_version < _LEAST_VERSION * 10000:
                found = connection.get_parameter_status("server_version")
                raise StorageTrouble(f"{self}: it is version {found}, expected {_LEAST_VERSION} or newer")
            settings: dict[str, object] = {f"tcp_{name}": value for name, value in _KEEPALIVES.items()}
            settings |= {
                "idle_in_transaction_session_timeout": f"'{_GONE_S}s'",
                "lock_timeout": f"'{_PATIENCE_S}s'",
                "client_encoding": "'UTF8'",
            }
            with self.told(), connection.cursor() as cursor:
                cursor.execute("; ".join(f"SET {name} = {value}" for name, value in settings.items()))
                cursor.execute("SELECT current_setting('synchronous_commit')")
                if cursor.fetchone() == ("off",):  # what is told to be kept is on disk
                    cursor.execute("SET synchronous_commit = on")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raises StorageTrouble in place of psycopg2's errors."""
        try:
            yield
        except _psycopg2().Error as error:
            raise self.trouble(error) from error

    def trouble(self, error: BaseException) -> StorageTrouble:
        """What went wrong, in one line, with the remedy."""
        said = str(error).strip().split("\n")[0].rstrip() or type(error).__name__
        return StorageTrouble(f"{self}: {said}; {_remedy(said, getattr(error, 'pgcode', None), self.variable)}")

    def is_lost(self, error: BaseException, connection: "Connection | None") -> bool:
        """Whether the session has ended, rather than a statement in it."""
        broken = isinstance(error, (_psycopg2().OperationalError, _psycopg2().InterfaceError))
        return broken and (connection is None or bool(connection.closed))


def _remedy(said: str, code: str | None, variable: str) -> str:
    if "does not exist" in said and "database" in said:
        return f"create it (createdb), or name another one in ${variable}"
    if any(word in said for word in ("password", "role", "no pg_hba.conf entry", "authentication")):
        return f"put a user and password that it knows into ${variable}"
    if code == "53100" or "No space left" in said:
        return "what was answered is kept; free some space there, then run the same command to go on"
    if code == "53300" or "too many" in said:
        return "raise its max_connections (three for each process of ours), then run the same command to go on"
    if code in ("42501", "25006") or "permission denied" in said or "read-only" in said:
        return "the user needs to write there, and CREATE on the database once; grant that, then run again"
    if code == "55P03":
        return "another process has held it for a minute; wait until it has ended, or stop it"
    return f"see that it runs and that ${variable} is right, then run the same command to go on"


def _psycopg2() -> Any:  # a module that need not be there
    try:
        import psycopg2
        import psycopg2.extensions
    except ImportError as error:
        raise ConfigError(
            f"journal.postgres_env: the journal is to be in PostgreSQL, and {error.name} is not installed; {_EXTRA}"
        ) from None
    return psycopg2
