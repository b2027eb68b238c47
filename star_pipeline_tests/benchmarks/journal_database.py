"""The journal in PostgreSQL against the file: a look-up, a reservation and a reply a request, 64 requests at once.

    python -m star_pipeline_tests.benchmarks.journal_database [--requests 6000] [--rounds 3] [--url postgresql://…]

Without a URL a throwaway server is started, which writes to the disk as one in earnest does. Ratios hold within one run only.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from star_pipeline.adapters.journal.postgres.journal import PostgresJournal
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.core.journal import Entry, Journal, Paid
from star_pipeline.core.ports import ChatRequest
from star_pipeline_tests.postgres_server import missing, serving

AT_ONCE = 64
TEXT = "A reply of some length, as models write them. " * 40


async def measure(opened: Callable[[str], Journal], lake: str, count: int) -> float:
    """Requests a second."""
    request = ChatRequest("a", (), "t", "v", stage="respond", purpose="p")
    async with contextlib.aclosing(opened(lake)) as journal:

        async def work(worker: int) -> None:
            for number in range(worker, count, AT_ONCE):
                key = f"{lake} {number}".encode()
                assert await journal.find(key) is None
                reservation = await journal.reserve("a", "respond", 100, 10**15)
                assert reservation is not None
                entry = Entry(lake, "p", TEXT, "stop", 300, 400, 90, 1.0, 1)
                await journal.add(Paid.of(key, request, "m", 1200, entry), reservation)

        began = time.perf_counter()
        await asyncio.gather(*(work(worker) for worker in range(AT_ONCE)))
        seconds = time.perf_counter() - began
        assert sum(row.replies for row in journal.spend()) == count
    return count / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="a database to measure in place of a throwaway one; the rows stay there")
    options = parser.parse_args()
    if not options.url and (why := missing()):
        raise SystemExit(f"{why}; or name a database with --url")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = options.url or stack.enter_context(serving(durable=True)).database()
        journals: dict[str, Callable[[str], Journal]] = {
            "SQLite": lambda lake: SqliteJournal(folder, lake),
            "PostgreSQL": lambda lake: PostgresJournal(Postgres(url, "--url"), lake, folder / "unsent"),
        }
        rates: dict[str, list[float]] = {name: [] for name in journals}
        for turn in range(options.rounds):
            for name, opened in journals.items():
                rates[name].append(asyncio.run(measure(opened, f"{turn} {time.time()}", options.requests)))
        medians = {name: statistics.median(found) for name, found in rates.items()}
        print(f"{AT_ONCE} requests at once, {options.requests:,} in all, median of {options.rounds}")
        for name, rate in medians.items():
            each = ", ".join(f"{one:,.0f}" for one in rates[name])
            print(f"{name:12}{rate:10,.0f} a second ({rate / medians['SQLite']:.2f} of SQLite; {each})")


if __name__ == "__main__":
    main()
