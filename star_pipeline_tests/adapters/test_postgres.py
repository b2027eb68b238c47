"""What is said of a PostgreSQL that is not as it should be: one line, with the remedy, and never a password."""

import re
import socket
import subprocess
import sys

import pytest

from star_pipeline.adapters.postgres import Postgres
from star_pipeline.core.errors import ConfigError, StarError, StorageTrouble


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "STAR_DATABASE is not set in the environment; expected postgresql://user:password@host:port/database"),
        ("mysql://u:secret@h/d", "holds no URL of psycopg2's .mysql."),
        ("postgresql+asyncpg://u:secret@h/d", "holds no URL of psycopg2's .postgresql.asyncpg."),
        ("host=h password=secret", "holds no URL of psycopg2's .no scheme."),
    ],
)
def test_a_variable_without_a_url_is_said(url, said, monkeypatch):
    monkeypatch.setenv("STAR_DATABASE", url)
    with pytest.raises(ConfigError, match=said) as told:
        Postgres.of("STAR_DATABASE")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_the_scheme_is_psycopg2s_however_it_is_written(scheme, postgres, monkeypatch):
    monkeypatch.setenv("STAR_DATABASE", postgres.url(scheme=scheme))
    with Postgres.of("STAR_DATABASE").connect("a test") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        assert cursor.fetchall() == [("a test",)]
    connection.close()


def test_each_trouble_has_its_remedy(postgres):
    with socket.socket() as taken:  # where nobody listens, and nobody else can
        taken.bind(("127.0.0.1", 0))
        _each_trouble_has_its_remedy(postgres, taken.getsockname()[1])


def _each_trouble_has_its_remedy(postgres, nobody):
    cases = {
        f"postgresql://me:secret@127.0.0.1:{nobody}/d": "refused; see that it runs and that .STAR_DATABASE is right",
        postgres.url("nowhere"): 'database "nowhere" does not exist; create it .createdb.',
        postgres.url().replace("postgres@", "nobody_at_all:secret@"): "role .* does not exist; put a user and password",
        "postgresql://me:secret@no-such-host.invalid/d": "; see that it runs and that .STAR_DATABASE is right",
    }
    for url, said in cases.items():
        with pytest.raises(StorageTrouble, match=said) as told:
            Postgres(url, "STAR_DATABASE").connect("a test")
        assert "\n" not in str(told.value)
        assert "secret" not in str(told.value)
        assert re.match(r"PostgreSQL [\w.-]+:\d+/\w+ \(\$STAR_DATABASE\): ", str(told.value))


def test_without_the_extra_one_line_names_it():
    code = """
import sys
sys.modules["psycopg2"] = None
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.core.errors import ConfigError
try:
    Postgres("postgresql://h/d", "STAR_DATABASE").connect("a test")
except ConfigError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'psycopg2 is not installed; pip install "star-pipeline[postgres]"' in said


def test_a_journal_of_another_version_is_refused(postgres, postgres_url, tmp_path):
    from star_pipeline.adapters.journal.postgres.journal import PostgresJournal

    def opened():
        PostgresJournal(Postgres(postgres_url, "STAR_DATABASE"), "lake", tmp_path).close()

    opened()
    postgres.query("UPDATE star_journal.version SET version = 9", database=postgres_url.rsplit("/", 1)[1])
    with pytest.raises(StarError, match="of version 9, expected 1"):
        opened()
