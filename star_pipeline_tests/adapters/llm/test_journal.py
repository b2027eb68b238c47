"""The journal through real SQLite files: kills, torn writes, full disks, several processes at once."""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from star_pipeline.adapters.llm import ledger
from star_pipeline.adapters.llm.journal import FILE, Entry, Journal, read_spend, request_key
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import LakeError
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message

AGENT = AgentConfig(model="hosted_vllm/m", api_base="http://x/v1", params={"temperature": 0.5})


def request(text="hello", **changes):
    return ChatRequest(
        **{"agent": "a", "messages": (Message("user", text),), "template": "t", "template_version": "v", **changes}
    )


def key(number):
    return request_key(request(f"question {number}"), AGENT)


def entry(text="fine", lake="lake", pico=7):
    return Entry(lake, "respond/s", text, "stop", 3, 5, pico, 0.25, 1)


async def add(journal, number, text="fine", reservation=None):
    return await journal.add(key(number), request(stage="respond"), "m", 11, entry(text, journal.lake), reservation)


def run(folder, work, lake="lake"):
    async def within():
        async with contextlib.aclosing(Journal(folder, lake)) as journal:
            return await work(journal)

    return asyncio.run(within())


def fill(folder, count=20):
    async def work(journal):
        await asyncio.gather(*(add(journal, number, f"reply {number}") for number in range(count)))

    run(folder, work)


async def found(journal, count=20):
    return [bool(journal.find(key(number))) for number in range(count)]


def test_a_reply_is_found_again_after_reopening_with_all_that_was_paid(tmp_path):
    text = "half \ud83d, a NUL \x00, Grüße"
    run(tmp_path, lambda journal: add(journal, 1, text))

    async def look(journal):
        assert journal.find(key(2)) is None
        return journal.find(key(1)), journal.spend()

    kept, [spend] = run(tmp_path, look)
    assert kept == entry(text)
    assert spend == ledger.Spend("a", "respond", 1, 11, 3, 5, 7, 0, 0)


@pytest.mark.parametrize(
    ("other", "agent"),
    [
        (request("hello!"), AGENT),
        (request(messages=(Message("system", "hello"),)), AGENT),
        (request(template="u"), AGENT),
        (request(template_version="w"), AGENT),
        (request(sample=1), AGENT),
        (request(params={"temperature": 0.0}), AGENT),
        (request(), AGENT.model_copy(update={"model": "hosted_vllm/n"})),
        (request(), AGENT.model_copy(update={"api_base": "http://y/v1"})),
        (request(), AGENT.model_copy(update={"params": {"temperature": 0.5, "top_p": 0.9}})),
    ],
)
def test_whatever_decides_a_reply_makes_another_request_of_it(other, agent):
    assert request_key(other, agent) != request_key(request(), AGENT)


def test_what_decides_nothing_does_not():
    renamed = replace(request(), agent="b", stage="judge", purpose="p")
    limits = AGENT.model_copy(
        update={"max_concurrency": 1, "timeout_s": 5, "api_key_env": "K", "input_cost_per_token": 1.0}
    )
    assert request_key(renamed, limits) == request_key(request(), AGENT)
    moved = AGENT.model_copy(update={"params": {}})
    assert request_key(request(params={"temperature": 0.5}), moved) == request_key(request(), AGENT)


def test_writes_at_the_same_time_share_a_transaction(tmp_path):
    async def work(journal):
        commits = []
        journal._db.set_trace_callback(lambda said: commits.append(said) if said == "COMMIT" else None)
        await asyncio.gather(*(add(journal, number) for number in range(50)))
        return len(commits)

    assert run(tmp_path, work) <= 2


def test_what_was_returned_survives_a_kill(tmp_path):
    code = """
        import asyncio, sys
        from pathlib import Path
        from star_pipeline_tests.adapters.llm.test_journal import Journal, add
        async def one(journal, number):
            await add(journal, number)
            print(number, flush=True)
        async def main():
            journal = Journal(Path(sys.argv[1]), "lake")
            for start in range(0, 100000, 8):
                await asyncio.gather(*(one(journal, number) for number in range(start, start + 8)))
        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        told = [int(writer.stdout.readline()) for _ in range(300)]
        os.kill(writer.pid, signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().split("\n")[:-1]]

    async def look(journal):
        assert journal.recount()
        return all(journal.find(key(number)) for number in told)

    assert run(tmp_path, look)


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
        with pytest.raises(LakeError, match=r"journal .*journal\.sqlite: .*; .*move the file away") as told:
            run(tmp_path / name, lambda journal: found(journal, 500))
        assert "\n" not in str(told.value)


def test_another_versions_journal_and_another_programs_database_are_refused(tmp_path):
    fill(tmp_path, 1)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(LakeError, match="version 9, expected a journal of version 1"):
        Journal(tmp_path, "lake")
    (tmp_path / "other").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "other" / FILE)) as db:
        db.execute("CREATE TABLE t(x)")
    with pytest.raises(LakeError, match="another program's database"):
        Journal(tmp_path / "other", "lake")


def limit_pages(journal, more):
    [now] = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count = {now + more}")


def test_a_full_disk_is_one_line_and_what_was_there_stays(tmp_path):
    fill(tmp_path)

    async def work(journal):
        limit_pages(journal, 2)
        with pytest.raises(LakeError, match="disk is full; what was answered is kept; free some space, then run again"):
            await add(journal, 30, "x" * 100_000)
        with pytest.raises(LakeError, match="disk is full"):
            journal.find(key(31))  # nothing more is asked

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
        with pytest.raises(LakeError, match="disk is full"):
            journal.find(key(31))

    run(tmp_path, work)
    assert run(tmp_path, lambda journal: found(journal, 34))[30:] == [True] * 4


def test_processes_that_share_a_journal_keep_one_reply_a_request_and_book_what_each_paid(tmp_path):
    code = """
        import asyncio, contextlib, sys
        from pathlib import Path
        from star_pipeline_tests.adapters.llm.test_journal import Journal, add, run
        async def main(journal):
            got = await asyncio.gather(*(add(journal, number, f"{sys.argv[2]} says {number}") for number in range(150)))
            got += [await add(journal, number, f"{sys.argv[2]} says {number}") for number in range(150, 200)]
            print([entry.text for entry in got])
        run(Path(sys.argv[1]), main, lake=sys.argv[2])
    """
    names = ["one", "two", "three"]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    said = {writer.communicate(timeout=120)[0] for writer in writers}
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(said) == 1  # all of them were given the same replies, whoever paid first

    async def look(journal):
        assert journal.recount()
        return journal.replies()

    assert run(tmp_path, look) == 200
    assert [row.replies for name in names for row in read_spend(tmp_path, name)] == [200, 200, 200]


def test_spend_is_rebuilt_from_the_rows(tmp_path):
    fill(tmp_path)

    async def work(journal):
        await journal.write(lambda db: ledger.reserve(db, "lake", "a", "judge", 100, 10**6))
        right = journal.spend()
        await journal.write(lambda db: db.execute("UPDATE ledger SET spent = spent + 1, reserved = 3"))
        assert journal.spend() != right
        assert journal.recount() is False
        assert journal.spend() == right
        assert journal.recount() is True
        return right

    assert [(row.stage, row.spent, row.reservations, row.reserved) for row in run(tmp_path, work)] == [
        ("judge", 0, 1, 100),
        ("respond", 140, 0, 0),
    ]


def test_a_reservation_is_settled_released_or_kept_and_never_beyond_the_limit(tmp_path):
    async def work(journal):
        async def reserve(pico):
            return await journal.write(lambda db: ledger.reserve(db, "lake", "a", "respond", pico, 100))

        first, second = await reserve(60), await reserve(40)
        assert await reserve(1) is None
        await journal.write(lambda db: ledger.release(db, first))
        assert await journal.write(lambda db: ledger.totals(db, "lake")) == (0, 40)
        await add(journal, 1, reservation=second)
        assert await journal.write(lambda db: ledger.totals(db, "lake")) == (7, 0)
        third = await reserve(93)
        await journal.write(lambda db: ledger.keep(db, third, "timeout"))
        assert await reserve(1) is None
        assert await journal.write(lambda db: ledger.totals(db, "another lake")) == (0, 0)
        assert journal.recount()

    run(tmp_path, work)


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
        bad = [journal.write(odd), journal.write(lambda db: db.execute("SELECT ?", (10**30,)))]
        results = await asyncio.gather(add(journal, 1), *bad, add(journal, 2), return_exceptions=True)
        later = await add(journal, 3)
        return results, later, await found(journal, 4)

    results, later, kept = run(tmp_path, work)
    assert [type(result).__name__ for result in results] == ["Entry", "CallError", "CallError", "Entry"]
    assert "Odd: of its own kind" in str(results[1])
    assert later == entry()
    assert kept == [False, True, True, True]


@pytest.mark.parametrize(
    "odd",
    [
        {"prompt_tokens": 10**19}, {"completion_tokens": -4}, {"prompt_tokens": float("nan")}, {"pico": float("inf")},
        {"finish_reason": "st\ud800op"}, {"purpose": "\udfff"}, {"prompt_tokens": None}, {"completion_tokens": "many"},
    ],
)  # fmt: skip  # read as a table
def test_a_reply_with_odd_metadata_is_kept_and_found_as_it_was_returned(odd, tmp_path):
    async def work(journal):
        kept = await journal.add(key(1), request(), "m", 11, replace(entry(), **odd), None)
        return kept, journal.find(key(1)), journal.recount()

    kept, again, right = run(tmp_path, work)
    assert kept == again
    assert kept.text == "fine"
    assert right


def test_sums_beyond_64_bits_stay_whole_numbers(tmp_path):
    async def work(journal):
        most = replace(entry(), prompt_tokens=2**63 - 1, pico=2**63 - 1)
        for number in range(3):
            await journal.add(key(number), request(), "m", 11, most, None)
        return journal.recount(), journal.spend()

    right, [spend] = run(tmp_path, work)
    assert right
    assert (spend.replies, spend.prompt_tokens, spend.spent) == (3, 2**63 - 1, 2**63 - 1)
