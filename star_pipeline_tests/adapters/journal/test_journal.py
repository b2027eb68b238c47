"""The journal's port, through every adapter: kills, several processes at once, budgets, odd replies."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from star_pipeline.adapters.journal.request_keys import request_key
from star_pipeline.core.journal import Sent, Spend
from star_pipeline.core.records import Message
from star_pipeline_tests.journals import AGENT, add, entry, found, key, open_at, paid, read_spend, request, run, where

__all__ = ["where"]


def script(code, *arguments):
    """Another process, which prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_reply_is_found_again_after_reopening_with_all_that_was_paid(where):
    text = "half \ud83d, a NUL \x00, Grüße"
    run(where, lambda journal: add(journal, 1, text))

    async def look(journal):
        assert await journal.find(key(2)) is None
        return await journal.find(key(1)), journal.spend()

    kept, [spend] = run(where, look)
    assert kept == entry(text)
    assert spend == Spend("a", "respond", 1, 11, 3, 5, 7, 0, 0)


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


def test_what_was_returned_survives_a_kill(where):
    code = """
        import asyncio, sys
        from star_pipeline_tests.journals import add, open_at
        async def one(journal, number):
            await add(journal, number)
            print(number, flush=True)
        async def main():
            journal = open_at(sys.argv[1], "lake")
            for start in range(0, 100000, 8):
                await asyncio.gather(*(one(journal, number) for number in range(start, start + 8)))
        asyncio.run(main())
    """
    with script(code, where) as writer:
        told = [int(writer.stdout.readline()) for _ in range(300)]
        os.kill(writer.pid, signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().split("\n")[:-1]]

    async def look(journal):
        assert journal.recount()
        return all([await journal.find(key(number)) for number in told])

    assert run(where, look)


def test_processes_that_share_a_journal_keep_one_reply_a_request_and_book_what_each_paid(where):
    code = """
        import asyncio, sys
        from star_pipeline_tests.journals import add, run
        async def main(journal):
            got = await asyncio.gather(*(add(journal, number, f"{sys.argv[2]} says {number}") for number in range(150)))
            got += [await add(journal, number, f"{sys.argv[2]} says {number}") for number in range(150, 200)]
            print([entry.text for entry in got])
        run(sys.argv[1], main, lake=sys.argv[2])
    """
    names = ["one", "two", "three"]
    writers = [script(code, where, name) for name in names]
    said = {writer.communicate(timeout=300)[0] for writer in writers}
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(said) == 1  # all of them were given the same replies, whoever paid first

    async def look(journal):
        assert journal.recount()
        return journal.replies()

    assert run(where, look) == 200
    assert [row.replies for name in names for row in read_spend(where, name)] == [200, 200, 200]


def test_processes_that_race_for_one_budget_are_granted_exactly_it(where):
    code = """
        import asyncio, sys
        from star_pipeline_tests.journals import run
        async def main(journal):
            async def ask():
                granted = 0
                while await journal.reserve("a", "respond", 7, 2800) is not None:
                    granted += 1
                return granted
            print(sum(await asyncio.gather(*(ask() for _ in range(16)))))
        run(sys.argv[1], main)
    """
    racers = [script(code, where) for _ in range(2)]
    granted = [int(racer.communicate(timeout=300)[0]) for racer in racers]
    assert sum(granted) == 400
    [spend] = run(where, spend_of)
    assert (spend.reservations, spend.reserved) == (400, 2800)


async def spend_of(journal):
    return journal.spend()


def test_a_long_lived_reader_sees_what_another_process_wrote_at_once(where):
    async def look(reader):
        assert await reader.find(key(1)) is None
        with script(
            "import sys; from star_pipeline_tests.journals import *; run(sys.argv[1], lambda j: add(j, 1))", where
        ):
            pass
        return await reader.find(key(1))

    assert run(where, look) == entry()


def test_a_reservation_is_settled_released_or_kept_and_never_beyond_the_limit(where):
    def totals(journal):
        rows = journal.spend()
        return sum(row.spent for row in rows), sum(row.reserved for row in rows)

    async def work(journal):
        async def reserve(pico):
            return await journal.reserve("a", "respond", pico, 100)

        first, second = await reserve(60), await reserve(40)
        assert await reserve(1) is None
        await journal.release(first)
        assert totals(journal) == (0, 40)
        await add(journal, 1, reservation=second)
        assert totals(journal) == (7, 0)
        third = await reserve(93)
        await journal.keep(third, "timeout")
        assert await reserve(1) is None
        assert totals(journal) == (7, 93)
        assert journal.recount()

    run(where, work)

    async def another(journal):
        return totals(journal)

    assert run(where, another, "another lake") == (0, 0)


def sent(number, worst=None):
    return Sent(key(number), "lake", "a", "respond", "p", "t", 0, {"top_p": 0.5}, 3, 300, 1, worst=worst)


def test_a_request_is_in_one_batch_at_most_and_leaves_it_once(where):
    async def work(journal):
        await add(journal, 9)
        begun = await journal.begin_batch(
            "m", "a", "host 1 2", [sent(2, 60), sent(9, 60), sent(1, 30), sent(3, 20)], 100 + 7
        )
        assert (begun.taken, begun.elsewhere, begun.beyond_budget) == ([key(2), key(1)], [key(9)], [key(3)])
        assert journal.any_open()
        assert await journal.in_batches() == {key(1), key(2)}
        assert await journal.holding(key(1)) == begun.batch
        assert await journal.holding(key(3)) is None
        other = await journal.begin_batch("n", "a", "host 1 2", [sent(1, 1)], 10**6)
        assert (other.batch, other.elsewhere) == (None, [key(1)])
        await journal.uploaded(begun.batch, "file")
        await journal.created(begun.batch, "remote")
        batch = await journal.batch(begun.batch)
        assert (batch.marker, batch.owner, batch.file, batch.remote) == ("m", "host 1 2", "file", "remote")
        first, second = await journal.sent_in(begun.batch)
        assert (first.key, second.key, first.params) == (key(2), key(1), {"top_p": 0.5})
        assert (await journal.add(paid(2, entry("by batch")), first.reservation, begun.batch)).text == "by batch"
        again = await journal.add(paid(2, entry("again")), first.reservation, begun.batch)
        assert again.text == "by batch"
        assert await journal.drop(begun.batch, [second, first], "timeout") == [True, False]
        assert await journal.batch(begun.batch) is None
        assert not journal.any_open()
        assert journal.recount()
        return journal.spend()

    [spend] = run(where, work)
    assert (spend.replies, spend.spent, spend.reservations, spend.reserved) == (2, 14, 1, 30)


def test_what_was_asked_ahead_is_claimed_once(where):
    async def work(journal):
        await journal.add(paid(1, replace(entry(), purpose="ahead/x")))
        claimed = [(await journal.claim(key(1), purpose)).purpose for purpose in ("first", "second")]
        await journal.add(paid(2, replace(entry(lake="other"), purpose="ahead/x")))
        return claimed, (await journal.claim(key(2), "mine")).purpose

    assert run(where, work) == (["first", "first"], "ahead/x")


@pytest.mark.parametrize(
    "odd",
    [
        {"prompt_tokens": 10**19}, {"completion_tokens": -4}, {"prompt_tokens": float("nan")}, {"pico": float("inf")},
        {"finish_reason": "st\ud800op"}, {"purpose": "\udfff"}, {"prompt_tokens": None}, {"completion_tokens": "many"},
        {"finish_reason": "a\0b", "purpose": "\0"},
    ],
)  # fmt: skip  # read as a table
def test_a_reply_with_odd_metadata_is_kept_and_found_as_it_was_returned(odd, where):
    async def work(journal):
        kept = await journal.add(paid(1, replace(entry(), **odd)))
        return kept, await journal.find(key(1)), journal.recount()

    kept, again, right = run(where, work)
    assert kept == again
    assert kept.text == "fine"
    assert right


def test_sums_beyond_64_bits_stay_whole_numbers(where):
    async def work(journal):
        most = replace(entry(), prompt_tokens=2**63 - 1, pico=2**63 - 1)
        for number in range(3):
            await journal.add(paid(number, most))
        return journal.recount(), journal.spend()

    right, [spend] = run(where, work)
    assert right
    assert (spend.replies, spend.prompt_tokens, spend.spent) == (3, 2**63 - 1, 2**63 - 1)


def test_log_probabilities_come_back(where):
    told = replace(entry(), top_logprobs=(("A", -0.25), ("Ü", -2.0)))

    async def work(journal):
        await journal.add(paid(1, told))
        return await journal.find(key(1))

    assert run(where, work) == told


def test_a_reply_that_cannot_be_kept_takes_no_other_along(where):
    async def work(journal):
        odd = replace(paid(2, entry()), sample=10**30)
        results = await asyncio.gather(add(journal, 1), journal.add(odd), add(journal, 3), return_exceptions=True)
        await add(journal, 4)
        return [type(result).__name__ for result in results], await found(journal, 5)

    assert run(where, work) == (["Entry", "CallError", "Entry"], [False, True, False, True, True])


def test_a_journal_is_closed_with_what_is_under_way(where):
    async def close_at_once():
        journal = open_at(where, "lake")
        writing = [asyncio.ensure_future(add(journal, number)) for number in range(20)]
        await asyncio.sleep(0)
        await journal.aclose()
        return await asyncio.gather(*writing)

    assert len(asyncio.run(close_at_once())) == 20
    assert all(run(where, found))
