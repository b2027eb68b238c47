"""How long a large journal takes to open and to ask, and how much memory that needs.

python -m star_pipeline_tests.benchmarks.journal_size [--replies 500000]
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from star_pipeline.adapters.journal.sqlite.file import FILE
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.core.journal import Entry, Journal, Paid
from star_pipeline.core.ports import ChatRequest

_ASKED = 1000


def _key(number: int) -> bytes:
    return number.to_bytes(20, "big")


async def fill(folder: Path, count: int) -> float:
    """Replies written a second, 128 at a time."""
    journal = SqliteJournal(folder, "lake")
    request = ChatRequest("a", (), "t", "v", stage="respond")
    entry = Entry("lake", "respond/s", "A reply of some length. " * 60, "stop", 300, 300, 10**8, 1.0, 1)
    began = time.perf_counter()
    for start in range(0, count, 128):
        many = range(start, min(start + 128, count))
        await asyncio.gather(*(journal.add(Paid.of(_key(number), request, "m", 1200, entry)) for number in many))
    seconds = time.perf_counter() - began
    await journal.aclose()
    return count / seconds


def reopen(folder: Path, count: int) -> None:
    """In a fresh process: print what opening and 1,000 look-ups take."""
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    journal = SqliteJournal(folder, "lake")
    opened = time.perf_counter() - began
    began = time.perf_counter()
    asyncio.run(_ask(journal, count))
    asked = (time.perf_counter() - began) / _ASKED
    grown = (psutil.Process().memory_info().rss - before) / 2**20
    began = time.perf_counter()
    assert journal.recount()
    recounted = time.perf_counter() - began
    print(
        f"open {opened * 1e3:.1f} ms, look-up {asked * 1e6:.0f} µs, memory +{grown:.1f} MiB, recount {recounted:.1f} s"
    )
    journal.close()


async def _ask(journal: Journal, count: int) -> None:
    for number in range(_ASKED):
        assert await journal.find(_key(number * (count // _ASKED)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=500_000)
    parser.add_argument("--reopen", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reopen:
        reopen(options.reopen, options.replies)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rate = asyncio.run(fill(folder, options.replies))
        print(f"{options.replies:,} replies at {rate:,.0f} a second, {os.path.getsize(folder / FILE) / 2**20:,.0f} MiB")
        again = [sys.executable, "-m", "star_pipeline_tests.benchmarks.journal_size", "--replies", str(options.replies)]
        subprocess.run([*again, "--reopen", name], check=True)


if __name__ == "__main__":
    main()
