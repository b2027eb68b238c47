"""What is of the SQLite file alone: torn writes, full disks, other versions' and other programs' files."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from star_pipeline.adapters.journal.sqlite.file import FILE
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.core.errors import StorageTrouble
from star_pipeline_tests.journals import add, entry, fill, found, key, read_spend, run


def test_writes_at_the_same_time_share_a_transaction(tmp_path):
    async def work(journal):
        commits = []
        journal._db.set_trace_callback(lambda said: commits.append(said) if said == "COMMIT" else None)
        await asyncio.gather(*(add(journal, number) for number in range(50)))
        return len(commits)

    assert run(tmp_path, work) <= 2


def crashed(folder, target):
    """A copy of the files of a journal that is open: what a machine that loses power leaves behind."""

    async def work(journal):
        for number in range(20):
            await add(journal, number)
        shutil.copytree(folder, target)

    run(folder, work)
    assert (target / f"{FILE}-wal").stat().st_size > 0


def test_a_torn_tail_loses_at_most_what_was_not_yet_returned(tmp_path):
    crashed(tmp_path / "a", tmp_path / "b")
    log = tmp_path / "b" / f"{FILE}-wal"
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) - 2000])
    kept = run(tmp_path / "b", found)
    assert kept == sorted(kept, reverse=True)  # a prefix: the last transaction alone is gone
    assert sum(kept) == 19
    log.write_bytes(b"")


def test_garbage_behind_the_log_or_the_database_does_no_harm(tmp_path):
    for ending in ("-wal", ""):
        target = tmp_path / f"b{ending}"
        crashed(tmp_path / f"a{ending}", target)
        with (target / f"{FILE}{ending}").open("ab") as file:
            file.write(os.urandom(5000))
        assert all(run(target, found))
        run(target, lambda journal: add(journal, 99))
        assert all(run(target, found))


def test_what_is_no_journal_is_said_in_one_line(tmp_path):
    cases = {"text": b"not a database at all" * 100, "cut": b""}
    fill(tmp_path / "whole", 500)
    cases["cut"] = (tmp_path / "whole" / FILE).read_bytes()[:9000]
    for name, content in cases.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_bytes(content)
        with pytest.raises(StorageTrouble, match=r"journal .*journal\.sqlite: .*; .*move the file away") as told:
            run(tmp_path / name, lambda journal: found(journal, 500))
        assert "\n" not in str(told.value)


def test_another_versions_journal_and_another_programs_database_are_refused(tmp_path):
    fill(tmp_path, 1)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(StorageTrouble, match="version 9, expected a journal of version 1"):
        SqliteJournal(tmp_path, "lake")
    (tmp_path / "other").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "other" / FILE)) as db:
        db.execute("CREATE TABLE t(x)")
    with pytest.raises(StorageTrouble, match="another program's database"):
        SqliteJournal(tmp_path / "other", "lake")


def limit_pages(journal, more):
    [now] = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count = {now + more}")


def test_a_full_disk_is_one_line_and_what_was_there_stays(tmp_path):
    fill(tmp_path)

    async def work(journal):
        limit_pages(journal, 2)
        with pytest.raises(
            StorageTrouble, match="disk is full; what was answered is kept; free some space, then run again"
        ):
            await add(journal, 30, "x" * 100_000)
        with pytest.raises(StorageTrouble, match="disk is full"):
            await journal.find(key(31))  # nothing more is asked

    run(tmp_path, work)
    assert all(run(tmp_path, found))
    run(tmp_path, lambda journal: add(journal, 30, "x" * 100_000))
    assert run(tmp_path, lambda journal: found(journal, 31))[30]


def test_the_ballast_makes_room_for_what_is_paid_already(tmp_path):
    fill(tmp_path)

    async def work(journal):
        limit_pages(journal, 2)

        class Ballast:
            def unlink(self, missing_ok):
                limit_pages(journal, 1000)

        journal._ballast = Ballast()
        await asyncio.gather(*(add(journal, number, "x" * 50_000) for number in range(30, 34)))
        with pytest.raises(StorageTrouble, match="disk is full"):
            await journal.find(key(31))

    run(tmp_path, work)
    assert run(tmp_path, lambda journal: found(journal, 34))[30:] == [True] * 4


def test_spend_is_rebuilt_from_the_rows(tmp_path):
    fill(tmp_path)

    async def work(journal):
        await journal.reserve("a", "judge", 100, 10**6)
        right = journal.spend()
        await journal._write(lambda db: db.execute("UPDATE ledger SET spent = spent + 1, reserved = 3"))
        assert journal.spend() != right
        assert journal.recount() is False
        assert journal.spend() == right
        assert journal.recount() is True
        return right

    assert [(row.stage, row.spent, row.reservations, row.reserved) for row in run(tmp_path, work)] == [
        ("judge", 0, 1, 100),
        ("respond", 140, 0, 0),
    ]


def test_there_is_no_spend_where_there_is_no_journal(tmp_path: Path):
    assert read_spend(tmp_path, "lake") == []
    assert not (tmp_path / FILE).exists()


def test_an_entry_that_cannot_be_written_takes_no_other_along(tmp_path):
    """Whatever a change raises: only its own caller is told, and the writer lives on."""

    class Odd(Exception):
        pass

    def odd(db):
        db.execute("DELETE FROM reply")
        raise Odd("of its own kind")

    async def work(journal):
        bad = [journal._write(odd), journal._write(lambda db: db.execute("SELECT ?", (10**30,)))]
        results = await asyncio.gather(add(journal, 1), *bad, add(journal, 2), return_exceptions=True)
        later = await add(journal, 3)
        return results, later, await found(journal, 4)

    results, later, kept = run(tmp_path, work)
    assert [type(result).__name__ for result in results] == ["Entry", "CallError", "CallError", "Entry"]
    assert "Odd: of its own kind" in str(results[1])
    assert later == entry()
    assert kept == [False, True, True, True]
