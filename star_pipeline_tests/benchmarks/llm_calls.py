"""What our layer costs, directly and on top of litellm: requests a second, client CPU a request, and memory over many requests.

    python -m star_pipeline_tests.benchmarks.llm_calls [--requests 1500] [--rounds 5] [--memory 20000]

Five clients, in turn, against one loopback server in a process of its own that waits 0 or 200 ms: a raw aiohttp client, bare
``litellm.acompletion``, our layer through litellm, our layer directly,
and the same with a budget. Medians over the rounds. Ratios hold within one run only.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.llm.library import load_litellm
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message

IN_FLIGHT = 128
PROMPT = "Compare the two answers below and say which one follows the instruction better. " * 12
REPLY = "The first answer is complete and to the point, while the second leaves out the last step. " * 8
Client = Callable[[int], Awaitable[None]]


def serve(address: Any) -> None:
    """An OpenAI-compatible server; the path says how many milliseconds it waits: http://…/200/v1/chat/completions."""
    from aiohttp import web

    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": REPLY}}],
        "usage": {"prompt_tokens": 190, "completion_tokens": 150, "total_tokens": 340},
    }
    said = json.dumps(body).encode()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(int(request.match_info["wait"]) / 1000)
        return web.Response(body=said, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/{wait}/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        address.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


@contextlib.asynccontextmanager
async def raw(base: str, folder: Path) -> Any:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

        async def ask(number: int) -> None:
            sent = {"model": "m", "messages": [{"role": "user", "content": f"{number} {PROMPT}"}], "max_tokens": 512}
            async with session.post(f"{base}/chat/completions", json=sent) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == REPLY

        yield _at_once(ask)


@contextlib.asynccontextmanager
async def bare(base: str, folder: Path) -> Any:
    litellm = load_litellm()

    async def ask(number: int) -> None:
        response = await litellm.acompletion(
            model="hosted_vllm/m", messages=[{"role": "user", "content": f"{number} {PROMPT}"}], api_base=base, max_tokens=512,
            timeout=120, max_retries=0, num_retries=0, drop_params=True,
        )  # fmt: skip  # read as a table
        assert response.choices[0].message.content == REPLY

    yield _at_once(ask)


@contextlib.asynccontextmanager
async def ours(base: str, folder: Path, budget_usd: float | None = None, client: Any = None) -> Any:
    agent = AgentConfig(
        model="hosted_vllm/m", api_base=base, max_concurrency=IN_FLIGHT, params={"max_tokens": 512},
        input_cost_per_token=1e-6, output_cost_per_token=2e-6, client=client,
    )  # fmt: skip  # read as a table
    async with contextlib.aclosing(AgentChat({"a": agent}, SqliteJournal(folder, "lake"), budget_usd)) as chat:

        async def ask(number: int) -> None:
            message = Message("user", f"{number} {PROMPT}")
            reply = await chat.complete(ChatRequest("a", (message,), "t", "v", stage="respond", purpose=str(number)))
            assert reply.text == REPLY

        yield ask


def _at_once(ask: Client) -> Client:
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def limited(number: int) -> None:
        async with slots:
            await ask(number)

    return limited


CLIENTS: dict[str, Callable[[str, Path], Any]] = {
    "raw aiohttp": raw,
    "bare litellm": bare,
    "ours by litellm": lambda base, folder: ours(base, folder, client="litellm"),
    "ours": ours,
    "ours, budget": lambda base, folder: ours(base, folder, budget_usd=1e4),
}


async def measure(make: Callable[[str, Path], Any], base: str, count: int) -> tuple[float, float]:
    """(requests a second, client CPU seconds a request); the connections are opened before."""
    with tempfile.TemporaryDirectory() as folder:
        async with make(base, Path(folder)) as ask:
            await asyncio.gather(*(ask(-1 - number) for number in range(IN_FLIGHT)))
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.gather(*(ask(number) for number in range(count)))
            return count / (time.perf_counter() - wall), (time.process_time() - cpu) / count


async def memory(base: str, count: int) -> list[tuple[int, float]]:
    """(requests done, resident MiB), after each tenth of ``count``."""
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        async with ours(base, Path(folder), budget_usd=1e4) as ask:
            for tenth in range(10):
                await asyncio.gather(*(ask(number) for number in range(tenth * count // 10, (tenth + 1) * count // 10)))
                gc.collect()
                seen.append(((tenth + 1) * count // 10, psutil.Process().memory_info().rss / 2**20))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=20000, help="requests of the memory test; 0: leave it out")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,), daemon=True)
    server.start()
    address = f"http://127.0.0.1:{here.recv()}"
    try:
        with asyncio.Runner() as runner:
            for wait_ms in (0, 200):
                found: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
                for _ in range(options.rounds):
                    for name, make in CLIENTS.items():
                        found[name].append(runner.run(measure(make, f"{address}/{wait_ms}/v1", options.requests)))
                _print(wait_ms, found)
            if options.memory:
                print("\nmemory of our layer, with a budget")
                for done, mib in runner.run(memory(f"{address}/0/v1", options.memory)):
                    print(f"{done:10,} requests {mib:10.1f} MiB")
    finally:
        server.terminate()


def _print(wait_ms: int, found: dict[str, list[tuple[float, float]]]) -> None:
    rates = {name: statistics.median(rate for rate, _ in rounds) for name, rounds in found.items()}
    cpus = {name: statistics.median(cpu for _, cpu in rounds) for name, rounds in found.items()}
    print(f"\nserver waits {wait_ms} ms, {IN_FLIGHT} in flight")
    print(f"{'':16}{'requests/s':>12}{'of bare':>9}{'CPU ms':>9}{'over bare':>11}")
    for name in found:
        rate, cpu = rates[name] / rates["bare litellm"], cpus[name] / cpus["bare litellm"] - 1
        print(f"{name:16}{rates[name]:12.0f}{rate:9.0%}{cpus[name] * 1e3:9.3f}{cpu:+11.1%}")


if __name__ == "__main__":
    main()
