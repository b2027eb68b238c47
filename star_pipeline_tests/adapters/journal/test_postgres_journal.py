"""What is of the journal in PostgreSQL alone: servers and sessions that end, and what was paid meanwhile."""

import asyncio
import contextlib
from dataclasses import replace

import psycopg2
import pytest

from star_pipeline.adapters.journal.postgres import changes, transaction
from star_pipeline.core.errors import StorageTrouble
from star_pipeline_tests.adapters.journal.test_journal import sent
from star_pipeline_tests.journals import add, entry, found, key, open_at, paid, read_spend, run


@pytest.fixture
def where(postgres_url, tmp_path):
    return f"{postgres_url} {tmp_path}"


def unsent(tmp_path):
    return list((tmp_path / "unsent").glob("*"))


def test_what_was_paid_while_the_server_was_away_is_kept_and_counted_once(where, postgres, tmp_path):
    async def work(journal):
        first = [await journal.reserve("a", "respond", 10, 1000) for _ in range(7)]
        await add(journal, 0, reservation=first[0])
        told = replace(entry("half \ud83d", journal.lake), top_logprobs=(("A", -0.5),))
        postgres.kill()
        answered = [add(journal, number, reservation=first[number]) for number in (1, 2)]
        answered += [journal.add(paid(3, told), first[3]), journal.release(first[4]), journal.keep(first[5], "timeout")]
        outcome = await asyncio.gather(*answered, return_exceptions=True)
        outcome += await asyncio.gather(
            journal.find(key(0)), journal.reserve("a", "respond", 1, 1000), return_exceptions=True
        )
        return outcome, told

    outcome, told = run(where, work)
    assert {type(error) for error in outcome} == {StorageTrouble}
    assert all("\n" not in str(error) and "run the same command to go on" in str(error) for error in outcome)
    [file] = unsent(tmp_path)
    with file.open("ab") as torn:
        torn.write(b'{"paid": {"key": "00')
    with pytest.raises(StorageTrouble):
        open_at(where, "lake")
    assert unsent(tmp_path) == [file]
    postgres.start()

    async def look(journal):
        assert journal.recount()
        assert await journal.find(key(3)) == told
        return await found(journal, 5)

    assert run(where, look) == [True] * 4 + [False]
    [spend] = read_spend(where, "lake")
    assert (spend.replies, spend.reservations) == (4, 2)  # of two nobody knows the fate
    assert unsent(tmp_path) == []


def test_what_another_process_is_still_keeping_is_left_to_it(where, postgres, tmp_path):
    async def work(journal):
        postgres.kill()
        with pytest.raises(StorageTrouble):
            await add(journal, 1)
        postgres.start()
        async with contextlib.aclosing(open_at(where, "lake")) as other:
            assert await other.find(key(1)) is None
        assert len(unsent(tmp_path)) == 1

    run(where, work)
    assert run(where, lambda journal: journal.find(key(1))) == entry()


def test_a_session_that_ends_is_made_anew(where, postgres):
    database = where.split()[0].rsplit("/", 1)[1]
    ending = (  # of this journal: an earlier one's may still be on their way out
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE '%%journal%%' AND datname = current_database()"
    )

    async def work(journal):
        await add(journal, 1)
        assert await journal.find(key(1))
        assert len(postgres.query(ending, database=database)) == 2
        assert await journal.find(key(1))
        await add(journal, 2)
        return await journal.holding(key(1)), await found(journal, 3)

    assert run(where, work) == (None, [False, True, True])


def test_a_transaction_that_is_made_again_is_made_once(where):
    """The connection was lost after the commit, before anybody was told of it."""
    run(where, lambda journal: add(journal, 9))
    at_once = [
        changes.Add(paid(1, entry("mine")), None, None),
        changes.Add(paid(9, entry("not mine")), None, None),
        changes.Reserve("a", "judge", 30, 100),
        changes.Begin("m", "a", "host 1 2", [sent(2, 50), sent(9, 1), sent(3, 60)], 100 + 30),
    ]
    with contextlib.closing(psycopg2.connect(where.split()[0])) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        first, second = (transaction.write(cursor, "lake", at_once) for _ in range(2))
    assert first[0] is True
    assert first[1] is second[1] is False
    assert first[2:] == second[2:]
    begun = first[3]
    assert (begun.taken, begun.elsewhere, begun.beyond_budget) == ([key(2)], [key(9)], [key(3)])

    async def look(journal):
        assert journal.recount()
        return journal.spend(), len(await journal.sent_in(begun.batch))

    spend, in_batch = run(where, look)
    assert [(row.stage, row.replies, row.reservations, row.reserved) for row in spend] == [
        ("judge", 0, 1, 30),
        ("respond", 3, 1, 50),
    ]
    assert in_batch == 1


def test_what_is_asked_at_the_same_time_goes_in_few_statements(where, postgres):
    database = where.split()[0].rsplit("/", 1)[1]
    committed = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"

    async def work(journal):
        await add(journal, 0)
        before = postgres.query(committed, database=database)[0][0]
        await asyncio.gather(*(add(journal, number) for number in range(400)))
        await asyncio.gather(*(journal.find(key(number)) for number in range(400)))
        return before

    before = run(where, work)
    assert postgres.query(committed, database=database)[0][0] - before < 60
