"""Journals for tests: each of the adapters, by one name for where it is, which other processes understand too."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from star_pipeline.adapters.journal.postgres.journal import PostgresJournal
from star_pipeline.adapters.journal.postgres.reading import reading_database
from star_pipeline.adapters.journal.request_keys import request_key
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.journal.sqlite.reading import reading_file
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.journal import Entry, Journal, Paid
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import AgentSpend, Message

T = TypeVar("T")
AGENT = AgentConfig(model="hosted_vllm/m", api_base="http://x/v1", params={"temperature": 0.5})


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    """Where a new journal is: a folder, or a database and a folder."""
    folder = str(tmp_path / "journal")
    return folder if request.param == "sqlite" else f"{request.getfixturevalue('postgres_url')} {folder}"


def open_at(where: Path | str, lake: str) -> Journal:
    url, folder = _parts(where)
    return (
        PostgresJournal(Postgres(url, "STAR_DATABASE"), lake, folder / "unsent") if url else SqliteJournal(folder, lake)
    )


def read_spend(where: Path | str, lake: str) -> list[AgentSpend]:
    """What a lake spent, by the journal there."""
    url, folder = _parts(where)
    reading = reading_database(Postgres(url, "STAR_DATABASE"), lake) if url else reading_file(folder, lake)
    with reading as journal:
        return journal.spend()


def _parts(where: Path | str) -> tuple[str, Path]:
    url, _, folder = str(where).rpartition(" ")
    return url, Path(folder)


def request(text="hello", **changes):
    return ChatRequest(
        **{"agent": "a", "messages": (Message("user", text),), "template": "t", "template_version": "v", **changes}
    )


def key(number):
    return request_key(request(f"question {number}"), AGENT)


def entry(text="fine", lake="lake", pico=7):
    return Entry(lake, "respond/s", text, "stop", 3, 5, pico, 0.25, 1)


def paid(number, reply: Entry) -> Paid:
    return Paid.of(key(number), request(stage="respond"), "m", 11, reply)


async def add(journal: Journal, number, text="fine", reservation=None) -> Entry:
    return await journal.add(paid(number, entry(text, journal.lake)), reservation)


def run(where: Path | str, work: Callable[[Journal], Awaitable[T]], lake: str = "lake") -> T:
    """Do some work with the journal there, which is opened and closed for it."""

    async def within():
        async with contextlib.aclosing(open_at(where, lake)) as journal:
            return await work(journal)

    return asyncio.run(within())


def fill(where, count=20):
    async def work(journal):
        await asyncio.gather(*(add(journal, number, f"reply {number}") for number in range(count)))

    run(where, work)


async def found(journal, count=20):
    return [bool(await journal.find(key(number))) for number in range(count)]
