"""A journal's file put into a real PostgreSQL."""

import asyncio
import json
from dataclasses import replace

import pytest

from star_pipeline.adapters.journal import copying
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.cli import app
from star_pipeline.core.errors import ConfigError
from star_pipeline_tests.adapters.journal.test_journal import sent
from star_pipeline_tests.conftest import CONFIG
from star_pipeline_tests.journals import add, entry, key, paid, read_spend, run


async def some_of_each(journal):
    """Replies of two lakes, one of them paid twice, reservations of either fate, an open batch."""
    told = replace(entry("half \ud83d, a NUL \x00", journal.lake), top_logprobs=(("A", -0.5),), finish_reason="a\0b")
    await journal.add(paid(0, told))
    await asyncio.gather(*(add(journal, number, f"reply {number}") for number in range(1, 20)))
    await journal.add(paid(1, entry("paid as well", "other")))
    await journal.keep(await journal.reserve("a", "judge", 100, 10**6), "timeout")
    begun = await journal.begin_batch("m", "a", "host 1 2", [sent(30, 50), sent(31, 60)], 10**6)
    await journal.uploaded(begun.batch, "file")


@pytest.fixture
def folder(tmp_path):
    run(tmp_path / "old", some_of_each)
    return tmp_path / "old"


@pytest.fixture
def where(postgres_url, tmp_path):
    return f"{postgres_url} {tmp_path}"


def copy(folder, url, tell=lambda done, total: None):
    return copying.copy_journal(folder, Postgres(url, "STAR_DATABASE"), tell)


def everything(where):
    async def look(journal):
        batch = await journal.holding(key(31))
        one = await journal.batch(batch)
        requests = [(each.key, bool(each.reservation)) for each in await journal.sent_in(batch)]
        replies = [await journal.find(key(number)) for number in range(20)]
        return (one.marker, one.file), requests, replies, journal.spend(), journal.recount()

    return run(where, look), read_spend(where, "other")


def test_all_of_a_file_is_in_the_database_afterwards_however_often_it_is_copied(folder, where, postgres_url):
    first = copy(folder, postgres_url)
    assert (first.replies, first.new, first.pico, first.reservations, first.batches) == (21, 21, 147, 3, 1)
    here = everything(folder)
    there = everything(where)
    assert there[0][2][0].finish_reason == "a\ufffdb"
    here[0][2][0] = there[0][2][0]
    assert there == here
    assert copy(folder, postgres_url).new == 0
    assert everything(where) == there

    async def settled(journal):
        batch = await journal.holding(key(31))
        await journal.drop(batch, await journal.sent_in(batch))

    run(where, settled)
    run(folder, lambda journal: add(journal, 40))
    again = copy(folder, postgres_url)
    assert (again.new, again.reservations, again.batches) == (1, 0, 0)  # what was settled there does not come back
    [judge, respond] = read_spend(where, "lake")
    assert (judge.reservations, respond.replies, respond.reservations) == (1, 21, 0)


def test_a_copy_that_was_ended_goes_on(folder, where, postgres_url, monkeypatch):
    monkeypatch.setattr(copying, "_STEP", 5)

    def ended(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(folder, postgres_url, ended)
    told = []
    assert copy(folder, postgres_url, lambda *far: told.append(far)).new == 11
    assert told[-1] == (21, 21)
    assert everything(where)[0][4]


def test_what_the_database_has_by_then_stays_the_reply_and_the_files_is_booked_beside_it(folder, where, postgres_url):
    run(where, lambda journal: add(journal, 3, "newer"))
    copy(folder, postgres_url)

    async def look(journal):
        return (await journal.find(key(3))).text, journal.replies(), journal.recount()

    assert run(where, look) == ("newer", 20, True)
    assert sum(row.replies for row in read_spend(where, "lake")) == 21


def test_the_command_says_what_it_copied(tmp_path, postgres_url, monkeypatch, capsys):
    monkeypatch.setenv("STAR_DATABASE", postgres_url)
    lake, config = Lake.at(tmp_path / "lake"), tmp_path / "config.yaml"
    run(lake.journal_folder(None), some_of_each, lake.lake_id)

    def copied(journal):
        config.write_text(json.dumps({**CONFIG, "journal": journal}))
        app(["journal", "copy", "--config", str(config), "--lake", str(lake.root)], standalone_mode=False)
        return capsys.readouterr().out

    said = copied({"postgres_env": "STAR_DATABASE"})
    assert said.startswith("21 replies (0 were there before), 0.0000 USD, 3 open reservations, 1 open batches: from ")
    assert said.endswith("counts and sums agree\n")
    assert "(21 were there before)" in copied({"postgres_env": "STAR_DATABASE"})
    with pytest.raises(ConfigError, match=r"its journal is no database; set journal: \{postgres_env: STAR_DATABASE\}"):
        copied(None)
