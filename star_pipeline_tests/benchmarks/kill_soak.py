"""Kills ``star-pipeline run`` at random moments, again and again, and compares with an undisturbed run.

python -m star_pipeline_tests.benchmarks.kill_soak [--kills 30] [--seed 0] [--lag 0] [--seeds 24] [--method eq8|thompson]
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from star_pipeline.adapters.journal.sqlite.file import FILE
from star_pipeline.adapters.lake import Lake
from star_pipeline.core import tables
from star_pipeline.core.table_spec import AnyTable
from star_pipeline_tests.conftest import seed_rows
from star_pipeline_tests.llm_server import ChatServer, Reply, chat_server
from star_pipeline_tests.program import star, started

IN_FLIGHT = 6
AGENTS = ("good", "mid", "bad")
EVOLUTIONS = {
    "eq8": {"rate": 0.02, "floor": 0.01},
    "thompson": {"method": "thompson", "floor": 0.01, "cost_weight": 20.0},
}
APART = {"latency_s"}
"""Costs and attempts are compared too: the server fails nobody, and each request has its one payer."""


@dataclass(frozen=True)
class Soak:
    """``lost`` are, kill by kill, the requests that the server had got and the journal had no reply of."""

    kills: int
    undisturbed: int
    requests: int
    replies: int
    lost: list[int]
    most_in_flight: int
    differences: list[str]


def soak(folder: Path, models: Path, kills: int, seed: int, lag: int = 0, seeds: int = 24, method: str = "eq8") -> Soak:
    """Run once undisturbed, and once with ``kills`` SIGKILLs, both with this lag and this method of evolution.

    ``models`` holds the scoring models ``small`` and ``large``.
    """
    from star_pipeline_tests.integration.test_run_against_a_server import configuration, same_numerics, scripted

    (folder / "seeds.json").write_text(json.dumps(seed_rows(seeds)))

    def slow(asked: dict[str, object]) -> Reply:
        said = scripted(asked)
        return said if isinstance(said, Reply) else Reply(said, delay_s=0.05)

    draw = random.Random(seed)
    calm, shaken = Lake.at(folder / "calm"), Lake.at(folder / "shaken")
    with chat_server(slow) as server:
        price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
        agents = {
            name: {"model": f"hosted_vllm/{name}", "api_base": server.url, "max_concurrency": IN_FLIGHT, **price}
            for name in AGENTS
        }
        sampling = {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 12}
        evolution = {**EVOLUTIONS[method], "lag": lag}
        config = configuration(models, server.url, agents=agents, sampling=sampling, evolution=evolution)
        options = ("--config", config, "--seeds", folder / "seeds.json")
        done = star("run", *options, "--lake", calm.root)
        assert done.returncode == 0, done.stderr
        same_numerics(calm, shaken)
        undisturbed = len(server.requests)
        server.requests.clear()
        lost: list[int] = []
        for number in range(kills):
            left = undisturbed - _replies(shaken)
            # spread over what is left of the run; every third kill comes late, and may hit the scoring or the writing of a table
            wanted = len(server.requests) + draw.randrange(max(1, min(left - 1, 2 * left // (kills - number))))
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with started("run", *options, "--lake", shaken.root, **quiet) as run:
                _wait_for_requests(server, run, wanted)
                time.sleep(draw.uniform(0, 3.0 if number % 3 == 2 else 0.1))
                if run.poll() is None:
                    os.kill(run.pid, signal.SIGKILL)
            server.settle()
            lost.append(len(server.requests) - _replies(shaken) - sum(lost))
        done = star("run", *options, "--lake", shaken.root)
        assert done.returncode == 0, done.stderr
        requests = len(server.requests)
    found = differences(calm, shaken)
    return Soak(kills, undisturbed, requests, _replies(shaken), lost, IN_FLIGHT * len(AGENTS), found)


def _wait_for_requests(server: ChatServer, run: subprocess.Popen[bytes], wanted: int) -> None:
    until = time.monotonic() + 300
    while len(server.requests) < wanted and run.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def _replies(lake: Lake) -> int:
    path = Path(lake.local(lake.journal)) / FILE
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as journal:
        return int(journal.execute("SELECT count(*) FROM reply").fetchone()[0])


def differences(
    one: Lake,
    other: Lake,
    apart: Collection[str] = APART,
    specs: Sequence[AnyTable] = (*tables.SHARD_TABLES, tables.STAR_DATASET),
) -> list[str]:
    """Columns, but for those ``apart``, that differ."""
    found = []
    for spec in specs:
        shards = [None] if spec is tables.STAR_DATASET else one.shards_of(spec)
        for shard in shards:
            before, after = (
                lake.read_arrow(spec, shard).drop_columns([c.name for c in spec.columns if c.name in apart]).to_pydict()
                for lake in (one, other)
            )
            found += [f"{spec.name}[{shard}].{name}" for name in before if before[name] != after[name]]
    return found


def main() -> None:
    from star_pipeline_tests.integration.test_run_against_a_server import STARTER
    from star_pipeline_tests.tiny_models import save_gpt_neox

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lag", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--method", choices=list(EVOLUTIONS), default="eq8")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = STARTER.read_text("utf-8").splitlines()
        save_gpt_neox(folder / "small", texts, seed=0, hidden=32, layers=2)
        save_gpt_neox(folder / "large", texts, seed=1, hidden=48, layers=2)
        print(soak(folder, folder, options.kills, options.seed, options.lag, options.seeds, options.method))


if __name__ == "__main__":
    main()
