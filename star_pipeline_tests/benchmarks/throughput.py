"""How busy ``run`` keeps LLM servers and scoring models: wall time against the bound, requests in flight, idle shares, lag by lag.

    python -m star_pipeline_tests.benchmarks.throughput [--lags 0 1 2] [--seeds 256] [--mean 2.0] [--one-by-one]

A loopback server in a process of its own works on 64 requests at once, and queues the rest, as a vLLM server does; how long it works on
one is log-normal, and depends on the request alone. Two small real models score. The bound is what would take longest with
everything else for nothing: the requests, 64 at a time, or the scoring alone. Figures of the server are its own, over the span from
its first request to its last reply.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands import ahead
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core.ports import Heard, ModelFit, ResponseLoss, Scorer, ScoringSample

Spans = list[tuple[float, float]]


def serve(address: Any, at_once: int, mean_s: float, sigma: float) -> None:
    """An OpenAI-compatible server; GET /spans tells when it worked on what, on the clock of all processes."""
    from aiohttp import web

    from star_pipeline_tests.integration.test_run_against_a_server import noise, scripted
    from star_pipeline_tests.llm_server import Reply, completion

    spans: Spans = []
    slots = asyncio.Semaphore(at_once)

    async def answer(request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        said = scripted(asked)
        reply = said if isinstance(said, Reply) else Reply(said)
        draw = random.Random(noise(json.dumps(asked, sort_keys=True)))
        seconds = mean_s * draw.lognormvariate(-sigma * sigma / 2, sigma)
        async with slots:
            began = time.monotonic()
            await asyncio.sleep(seconds)
            spans.append((began, time.monotonic()))
        return web.json_response(completion(asked, reply))

    async def told(_: web.Request) -> web.Response:
        return web.json_response(spans)

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        app.router.add_get("/spans", told)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        address.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


@contextlib.contextmanager
def server(at_once: int, mean_s: float, sigma: float) -> Iterator[str]:
    """The address of a running one."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(there, at_once, mean_s, sigma), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.kill()  # Dagster lets SIGTERM mean what SIGINT does, which may be ignored here
        process.join()


class TimedScorer:
    """A scorer that notes when it computes."""

    def __init__(self, scorer: Scorer, spans: Spans) -> None:
        self._scorer, self._spans = scorer, spans
        self.weights = scorer.weights

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        return self._scorer.fit(samples)

    def losses(
        self,
        samples: Sequence[ScoringSample],
        kept_chars: Sequence[int],
        heard: Heard | None = None,
        groups: Sequence[int] | None = None,
    ) -> list[ResponseLoss]:
        began = time.monotonic()
        try:
            return self._scorer.losses(samples, kept_chars, heard, groups)
        finally:
            self._spans.append((began, time.monotonic()))


@dataclass(frozen=True)
class Measured:
    """Seconds, and what was in flight on average of what the server takes at once, from its first request to its last reply."""

    lag: int
    requests: int
    wall_s: float
    requests_alone_s: float
    scoring_alone_s: float
    in_flight: float
    servers_idle: float
    few_in_flight: float
    scorers_idle: float

    def __str__(self) -> str:
        bound = max(self.requests_alone_s, self.scoring_alone_s)
        return (
            f"lag {self.lag}: {self.requests:,} requests, wall {self.wall_s:.1f} s = {self.wall_s / bound:.2f} × the bound of {bound:.1f} "
            f"s (requests alone {self.requests_alone_s:.1f}, scoring alone {self.scoring_alone_s:.1f}); in flight {self.in_flight:.1f} on "
            f"average, none for {self.servers_idle:.0%} of the time, less than a quarter for {self.few_in_flight:.0%}; scorers idle "
            f"{self.scorers_idle:.0%}"
        )


def measure(folder: Path, lag: int, options: argparse.Namespace) -> Measured:
    """One run on a new lake."""
    from star_pipeline_tests.integration.test_run_against_a_server import configuration

    lake = Lake.at(folder / f"lake{lag}")
    spans: Spans = []
    with server(options.at_once, options.mean, options.sigma) as address:
        agents = {
            name: {"model": f"hosted_vllm/{name}", "api_base": f"{address}/v1", "max_concurrency": options.at_once}
            for name in ("good", "mid", "bad")
        }
        config = configuration(
            folder,
            address,
            agents={name: {**agent, "adaptive_concurrency": False} for name, agent in agents.items()},
            evolution={"rate": 0.02, "floor": 0.01, "lag": lag},
            sampling={"pairs_per_seed": 3, "from_memory": 1, "shard_size": options.shard},
        )
        opened = ahead.open_scorer

        def timed(*args: Any) -> Scorer:
            return TimedScorer(opened(*args), spans)

        began = time.monotonic()
        # where both the steps and the work ahead open their models; without the work ahead scoring is not timed
        with mock.patch.object(ahead, "open_scorer", timed):
            run_pipeline(
                str(config), lake, [str(folder / "seeds.json")], SilentProgress(), ahead=not options.one_by_one
            )
        ended = time.monotonic()
        served: Spans = [(a, b) for a, b in json.loads(urllib.request.urlopen(f"{address}/spans").read())]
    return _measured(lag, served, spans, ended - began, options.at_once)


def _measured(lag: int, served: Spans, scored: Spans, run_s: float, at_once: int) -> Measured:
    first, last = min(a for a, _ in served), max(b for _, b in served)
    span = last - first
    none, few = (_less_than(count, served) / span for count in (1, at_once / 4))
    busy = sum(b - a for a, b in served)
    scoring = sum(b - a for a, b in scored)
    return Measured(lag, len(served), run_s, busy / at_once, scoring, busy / span, none, few, 1 - scoring / span)


def _less_than(count: float, spans: Spans) -> float:
    """Seconds between the first and the last in which fewer than ``count`` of them held."""
    changes = sorted([(a, 1) for a, _ in spans] + [(b, -1) for _, b in spans])
    total, now = 0.0, 0
    for (at, change), (then, _) in itertools.pairwise(changes):
        now += change
        total += then - at if now < count else 0.0
    return total


def main() -> None:
    from star_pipeline_tests.integration.test_run_against_a_server import STARTER
    from star_pipeline_tests.tiny_models import save_gpt_neox

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lags", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, default=256)
    parser.add_argument("--shard", type=int, default=64)
    parser.add_argument(
        "--mean", type=float, default=2.0, help="seconds that the server works on a request, on average"
    )
    parser.add_argument("--sigma", type=float, default=0.8)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--one-by-one", action="store_true", help="without working ahead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = STARTER.read_text("utf-8").splitlines()
        save_gpt_neox(folder / "small", texts, seed=0, hidden=32, layers=2)
        save_gpt_neox(folder / "large", texts, seed=1, hidden=48, layers=2)
        rows = [json.loads(line) for line in texts if '"history"' not in line]
        more = [
            {**row, "instruction": f"{row['instruction']} Give example {number}."}
            for number in range(3)
            for row in rows
        ]
        (folder / "seeds.json").write_text(json.dumps((rows + more)[: options.seeds]))
        for lag in options.lags:
            print(measure(folder, lag, options), flush=True)


if __name__ == "__main__":
    main()
