"""A journal's file put into a real PostgreSQL."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from star_pipeline.adapters.journal import copying
from star_pipeline.adapters.journal.older import passed_over
from star_pipeline.adapters.journal.opening import open_journal
from star_pipeline.adapters.journal.sqlite.file import FILE
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.cli import app
from star_pipeline.config import load_config
from star_pipeline.core.errors import ConfigError, LakeError
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


@pytest.fixture
def moved(tmp_path, postgres_url, monkeypatch):
    """Of a lake at ``root``: opens its journal in the database, and copies there what is found."""
    monkeypatch.setenv("STAR_DATABASE", postgres_url)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({**CONFIG, "journal": {"postgres_env": "STAR_DATABASE"}}))

    class Moved:
        def __init__(self, root):
            self.lake = Lake.at(root)

        def open(self):
            open_journal(load_config(str(config)), self.lake).close()

        def copy(self):
            app(["journal", "copy", "--config", str(config), "--lake", str(self.lake.root)], standalone_mode=False)

        def refused(self, words):
            with pytest.raises(LakeError, match=words) as refusal:
                self.open()
            assert "\n" not in str(refusal.value)

    return Moved


def test_a_journal_in_the_lake_that_was_never_copied_is_not_passed_over(moved, tmp_path):
    one = moved(tmp_path / "lake")
    one.open()
    folder = one.lake.journal_folder(None)
    run(folder, lambda journal: journal.reserve("a", "judge", 100, 10**6), one.lake.lake_id)
    one.open()  # no reply was paid for
    run(folder, lambda journal: add(journal, 1), one.lake.lake_id)
    one.refused(
        rf"{folder}/journal.sqlite: 1 replies that are not in PostgreSQL .*: star-pipeline journal copy, .* or remove the file"
    )
    one.copy()
    one.open()
    run(folder, lambda journal: add(journal, 2), one.lake.lake_id)  # by a command with the former configuration
    one.refused("2 replies that are not in")
    one.copy()
    one.open()


def test_nor_is_one_of_another_machine_or_one_that_was_put_into_the_bucket(moved, bucket, tmp_path, monkeypatch):
    machines = {name: str(tmp_path / name) for name in ("a", "b")}

    def on(machine):
        monkeypatch.setenv("STAR_WORKSPACE", machines[machine])

    kept, put = moved(f"{bucket}/kept"), moved(f"{bucket}/put")
    on("a")
    run(kept.lake.journal_folder(None, pays=True), lambda journal: add(journal, 1), kept.lake.lake_id)
    run(tmp_path / "old", lambda journal: add(journal, 1), put.lake.lake_id)
    (put.lake.root / "journal" / FILE).write_bytes((tmp_path / "old" / FILE).read_bytes())
    for name, one in (("kept", kept), ("put", put)):
        on("b")
        words = {
            "kept": f"its replies were kept on .* in {machines['a']}/.*/journal",
            "put": f"{bucket}/put/journal/{FILE}: replies of",
        }
        one.refused(f"{words[name]}.*star-pipeline journal copy")
        on("a")
        if name == "put":
            one.lake.prepare()  # and the remedy: download it
            (Path(str(one.lake.journal)) / FILE).write_bytes((one.lake.root / "journal" / FILE).read_bytes())
        one.refused("1 replies that are not in")
        one.copy()
        for machine in machines:
            on(machine)
            one.open()


def test_a_folder_s_own_replies_are_told_of_where_the_configuration_names_another_journal(tmp_path):
    lake, config = Lake.at(tmp_path / "lake"), tmp_path / "config.yaml"
    run(lake.journal_folder(None), lambda journal: add(journal, 1), lake.lake_id)
    for journal, told in ((str(tmp_path / "shared"), True), (str(tmp_path / "lake" / "journal"), False), (None, False)):
        config.write_text(json.dumps({**CONFIG, "journal": journal}))
        said = passed_over(load_config(str(config)), lake)
        assert bool(said) == told
    config.write_text(json.dumps({**CONFIG, "journal": str(tmp_path / "shared")}))
    assert "journal/journal.sqlite: 1 replies that are not looked for" in passed_over(load_config(str(config)), lake)
