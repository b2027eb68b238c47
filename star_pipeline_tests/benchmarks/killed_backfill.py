"""A backfill through ``star-pipeline dev`` with a process killed in the middle, against an undisturbed ``star-pipeline run``.

    python -m star_pipeline_tests.benchmarks.killed_backfill --shards 20

The LLM server is on loopback and the scoring models are small, random and real. Prints the seconds a shard took in the
daemon, whether the order was kept, and whether every snapshot is the undisturbed one; exits 1 where not.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from star_pipeline.adapters.lake import Lake
from star_pipeline.core import tables
from star_pipeline.defs.jobs import LOOP
from star_pipeline.instance import open_instance
from star_pipeline.instance.attempts import failure_of
from star_pipeline_tests.conftest import CONFIG, seed_rows
from star_pipeline_tests.daemon import Daemon, dagster_ui
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.tiny_models import save_gpt_neox

STAR = str(Path(sys.executable).with_name("star-pipeline"))


def answer(asked: dict[str, Any]) -> str:
    text = asked["messages"][-1]["content"]
    return f"[{'ABC'[len(text) % 3]}]" if "Final Verdict" in text else f"{asked['model']} says {text[-120:]}"


def configuration(folder: Path, url: str) -> Path:
    texts = [json.dumps(row) for row in seed_rows(100)]
    for number, name in enumerate(("small", "large")):
        save_gpt_neox(folder / name, texts, seed=number, hidden=32 + 16 * number, layers=2)
    settings = {
        **CONFIG,
        "agents": {name: {"model": f"hosted_vllm/{name}", "api_base": url} for name in "ab"},
        "scoring": {"small": str(folder / "small"), "large": str(folder / "large"), "template": "plain"},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(settings))
    return path


def kill_in_the_middle(daemon: Daemon, shard: str) -> str:
    """SIGKILL the process that works on the shard; returns the run's id."""

    def working() -> dict[str, Any] | None:
        found = [run for run in daemon.runs() if run["partition"] == shard and run["status"] == "STARTED"]
        return found[0] if found and daemon.process(found[0]["runId"]) else None

    run = daemon.until(f"run of {shard}", working, 1800)
    os.kill(daemon.process(run["runId"]) or 0, signal.SIGKILL)
    return str(run["runId"])


def backfill(config: Path, lake: Lake, folder: Path) -> tuple[str, str, list[dict[str, Any]], float]:
    """(status of the backfill, run that was killed, all runs, seconds); the shards are handed in last to first."""
    command = [STAR, "dev", "--config", str(config), "--lake", str(lake.root)]
    with dagster_ui(lake, config, folder / "dev.log", "star_pipeline.definitions", command) as daemon:
        assert daemon.finish(daemon.launch("take_in_seeds")) == "SUCCESS"
        shards = lake.catalog_shards()
        began = time.monotonic()
        backfill_id = daemon.backfill(LOOP, shards[::-1])
        killed = kill_in_the_middle(daemon, shards[len(shards) // 2])
        status = daemon.finish_backfill(backfill_id, 3600)
        return status, killed, daemon.runs(), time.monotonic() - began


def report(lake: Lake, calm: Lake, status: str, killed: str, runs: list[dict[str, Any]], seconds: float) -> bool:
    worked = [run for run in runs if run["partition"]]
    done = [run for run in worked if run["status"] == "SUCCESS"]
    starts = [run["startTime"] for run in done]
    in_order = [run["partition"] for run in done] == lake.catalog_shards()
    others = [run for run in worked if run["status"] != "SUCCESS" and run["runId"] != killed]
    spec = tables.AGENT_PAIR_PROBABILITIES
    equal = all(
        lake.has_table(spec, shard) and lake.read_table(spec, shard) == calm.read_table(spec, shard)
        for shard in calm.catalog_shards()
    )
    pace = statistics.median(after - before for before, after in itertools.pairwise(starts))
    print(
        f"backfill                {status}, {len(done)} shards in {seconds:.0f} s, {pace:.1f} s from shard to shard (median)"
    )
    print(f"in key order            {in_order}")
    print(f"failed besides the kill {len(others)}")
    with open_instance(lake) as instance:
        for run in others:
            print(f"    {run['partition']} {run['status']} {' '.join(failure_of(instance, run['runId']))}")
    print(f"snapshots as undisturbed {equal}")
    return status == "COMPLETED_SUCCESS" and in_order and equal and not others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=20)
    shards = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as place, chat_server(answer) as server:
        folder = Path(place)
        config, lake, calm = configuration(folder, server.url), Lake.at(folder / "lake"), Lake.at(folder / "calm")
        for each in (lake, calm):
            each.prepare()
            each.write_bytes(each.seeds / "seeds.json", json.dumps(seed_rows(4 * shards)).encode())
        options = ["--config", str(config), "--lake", str(calm.root)]
        subprocess.run([STAR, "run", *options], check=True, capture_output=True)
        if not report(lake, calm, *backfill(config, lake, folder)):
            sys.exit(1)


if __name__ == "__main__":
    main()
