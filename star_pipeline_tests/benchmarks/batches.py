"""``star-pipeline run`` with agents in batches, killed again and again while batches are sent, waited for and read.

python -m star_pipeline_tests.benchmarks.batches [--seeds 200] [--kills 10] [--random 0]

Three runs on the same seeds: live, in batches, and in batches with SIGKILLs, each at a random call of the provider's: before it is
answered (the batch may be created and not written down) or a moment later. Told are how often the server saw each request, the bills,
and in which columns the tables differ (none but costs and times should).
"""

import argparse
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline_tests.batch_server import BatchServer, Fate, batch_server
from star_pipeline_tests.benchmarks.kill_soak import differences
from star_pipeline_tests.conftest import seed_rows
from star_pipeline_tests.journals import read_spend

AGENTS = ("good", "mid", "bad")
APART = {"latency_s", "cost_usd", "rewrite_cost_usd"}


@dataclass(frozen=True)
class Result:
    """``killed_at`` are the calls at which the kills came; ``twice`` counts requests that the server saw in more than one batch."""

    kills: int
    killed_at: dict[str, int]
    live_requests: int
    batch_requests: tuple[int, int]
    twice: tuple[int, int]
    batches: tuple[int, int]
    bill: tuple[float, float, float]
    reserved: float
    differences: list[str]
    seconds: tuple[float, float, float]


def measure(folder: Path, models: Path, seeds: int, kills: int, draw: random.Random) -> Result:
    from star_pipeline_tests.integration.test_run_against_a_server import configuration, scripted
    from star_pipeline_tests.program import command, star

    (folder / "seeds.json").write_text(json.dumps(seed_rows(seeds)))
    lakes = [Lake.at(folder / name) for name in ("live", "calm", "shaken")]
    seconds, seen, batches = [], [], []
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "params": {"max_tokens": 400}}
    sampling = {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 64}
    killed_at: Counter[str] = Counter()
    live_requests = calm_calls = 0
    for lake in lakes:
        with batch_server(scripted) as server:
            server.fate = lambda number: Fate(looks=1, after_s=0.5)
            mode = "live" if lake is lakes[0] else "batch"
            agents = {
                name: {"model": f"hosted_vllm/{name}", "api_base": server.url, "mode": mode, **price} for name in AGENTS
            }
            config = configuration(models, server.url, agents=agents, sampling=sampling, budget={"usd": 50.0})
            whole = command("run", "--config", config, "--seeds", folder / "seeds.json", "--lake", lake.root)
            began = time.monotonic()
            if lake is lakes[2]:
                for number in range(kills):
                    left = calm_calls - len(server.calls)
                    if (call := _killed(server, whole, max(1, 2 * left // (kills - number + 1)), draw)) is not None:
                        killed_at[call] += 1
            done = star(*whole[1:])
            assert done.returncode == 0, done.stderr
            seconds.append(time.monotonic() - began)
            live_requests = live_requests or len(server.requests)
            calm_calls = len(server.calls)
            seen.append(Counter(server.keys))
            batches.append(len(server.batches))
    spend = [read_spend(Path(lake.local(lake.journal)), lake.lake_id) for lake in lakes]
    return Result(
        sum(killed_at.values()),
        dict(killed_at),
        live_requests,
        (seen[1].total(), seen[2].total()),
        tuple(sum(count > 1 for count in counts.values()) for counts in seen[1:]),
        tuple(batches[1:]),
        tuple(sum(row.cost_usd for row in rows) for rows in spend),
        sum(row.reserved_usd for row in spend[2]),
        differences(lakes[0], lakes[2], APART),
        tuple(round(one, 1) for one in seconds),
    )


def _killed(server: BatchServer, whole: list[str], most: int, draw: random.Random) -> str | None:
    """Run until one of the next ``most`` calls, and kill; returns which call it was, None where the run ended before."""
    after, late_s = draw.randrange(1, most + 1), draw.choice([None, draw.uniform(0, 0.5)])
    first, hit = len(server.calls), list[str]()
    with subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:

        def meanwhile(call: str) -> None:
            if len(server.calls) - first >= after and not hit:
                hit.append(call)
                if late_s is None:
                    os.kill(run.pid, signal.SIGKILL)

        server.meanwhile = meanwhile
        while not hit and run.poll() is None:
            time.sleep(0.01)
        if hit and late_s is not None:
            time.sleep(late_s)
            os.kill(run.pid, signal.SIGKILL)
        run.wait()
        server.meanwhile = lambda call: None
    return hit[0] if hit else None


def main() -> None:
    from star_pipeline_tests.integration.test_run_against_a_server import STARTER
    from star_pipeline_tests.tiny_models import save_gpt_neox

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--random", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = STARTER.read_text("utf-8").splitlines()
        save_gpt_neox(folder / "small", texts, seed=0, hidden=32, layers=2)
        save_gpt_neox(folder / "large", texts, seed=1, hidden=48, layers=2)
        result = measure(folder, folder, options.seeds, options.kills, random.Random(options.random))
        for field, value in vars(result).items():
            print(f"{field}: {value}")


if __name__ == "__main__":
    main()
