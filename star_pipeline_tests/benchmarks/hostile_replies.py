"""Hostile replies through the LLM layer and the judge: is any good reply lost, does the event loop ever stand still?

    python -m star_pipeline_tests.benchmarks.hostile_replies [--replies 2000] [--seed 1]

The server has a process of its own. Ends with 1 where a good reply was lost, a row has neither text nor reason, or the event
loop was at one piece of work for longer than a second. (On a busy machine it also stands still while it waits for a processor: both
are told.)
"""

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.equations.judging import Judge, JudgeRules
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Candidate, IfdScore, Message, Seed
from star_pipeline_tests.hostile import hostile, script
from star_pipeline_tests.llm_server import chat_server


@dataclass
class Told:
    """``lost``: numbers of good replies that did not arrive as sent; ``silent``: rows without text and reason; ``longest_s``: for
    how long the event loop stood still, ``longest_work_s`` in CPU time of its thread."""

    replies: int = 0
    failed: int = 0
    lost: list[int] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    longest_s: dict[str, float] = field(default_factory=lambda: {"asking": 0.0, "judging": 0.0})
    longest_work_s: float = 0.0
    phase: str = "asking"


def agent(url: str) -> AgentConfig:
    limits = {"max_concurrency": 16, "max_tries": 2, "timeout_s": 60, "patience_s": 3600}
    prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    return AgentConfig(model="hosted_vllm/m", api_base=url, params={"max_tokens": 64}, **limits, **prices)


@contextlib.asynccontextmanager
async def watched(told: Told) -> Any:
    """Measures for how long the event loop stands still."""

    async def watch() -> None:
        while True:
            before, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.02)
            told.longest_s[told.phase] = max(told.longest_s[told.phase], time.perf_counter() - before - 0.02)
            told.longest_work_s = max(told.longest_work_s, time.thread_time() - worked)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


async def ask_all(
    url: str, folder: Path, numbers: Sequence[int], seed: int, most: int = 1_000_000, to_judge: int = 0
) -> Told:
    """Ask these questions through the layer, then judge so many candidates."""
    told = Told()

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    async def pulse() -> None:
        """Good replies now and then, or a server that has only bad ones left is taken for dead, and rightly."""
        for number in itertools.count(1):
            await chat.complete(ChatRequest("a", (Message("user", "question 0."),), "t", "v", sample=number))
            await asyncio.sleep(0.02)

    chat = AgentChat({"a": agent(url)}, SqliteJournal(folder, "lake"), 1e5, at_once)
    async with contextlib.aclosing(chat), watched(told):

        async def one(number: int) -> None:
            request = ChatRequest(
                "a", (Message("user", f"question {number}."),), "t", "v", stage="respond", purpose=str(number)
            )
            good = hostile(seed, number, most)[1]
            try:
                reply = await chat.complete(request)
            except CallError as error:
                told.failed += 1
                told.lost += [number] if good is not None else []
                told.silent += [] if str(error) else [f"question {number}"]
                return
            told.replies += 1
            told.lost += [number] if good is not None and reply.text != good else []

        await one(0)
        beating = asyncio.create_task(pulse())
        await asyncio.gather(*map(one, numbers))
        told.phase = "judging"
        for row in await Judge(chat, PromptLibrary({}), JudgeRules("a", 2, "tie", False)).verdicts(
            *judged(to_judge), SilentProgress()
        ):
            told.verdicts[row.verdict] = told.verdicts.get(row.verdict, 0) + 1
            if row.pi_llm is None and not row.error:
                told.silent.append(row.candidate_id)
        beating.cancel()
    return told


def judged(count: int) -> tuple[list[Candidate], list[Seed], list[IfdScore]]:
    seeds = [Seed(f"s{n}", "f", n + 1, None, (), f"question {n}.", "an answer") for n in range(count)]

    def candidate(number: int, slot: int) -> Candidate:
        made = (f"c{number}-{slot}", f"s{number}", slot, "keep+a", f"question {number}.", f"response {slot}")
        return Candidate(*made, "ok", None, None, 1, 1, 1, 0.0, 0.0)

    candidates = [candidate(n, slot) for n in range(count) for slot in (0, 1)]
    return candidates, seeds, [IfdScore(c.candidate_id, c.seed_id, "ok", False, gap=0.5) for c in candidates]


def serve(address: Any, seed: int) -> None:
    with chat_server(script(seed)) as server:
        address.send(server.url)
        address.recv()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, options.seed), daemon=True)
    server.start()
    url = here.recv()
    with tempfile.TemporaryDirectory() as folder:
        told = asyncio.run(
            ask_all(url, Path(folder), range(1, options.replies), options.seed, to_judge=options.replies // 10)
        )
    here.send("done")
    server.join()
    print(f"{told.replies:,} replies, {told.failed:,} failed with a reason; verdicts {told.verdicts}")
    print(f"good replies lost: {told.lost[:20] or 'none'}; rows without a reason: {told.silent[:20] or 'none'}")
    still = ", ".join(f"{seconds:.2f} s {what}" for what, seconds in told.longest_s.items())
    print(f"the event loop stood still for {still} at most; of its own work for {told.longest_work_s:.2f} s")
    return int(bool(told.lost or told.silent or told.longest_work_s > 1))


if __name__ == "__main__":
    sys.exit(main())
