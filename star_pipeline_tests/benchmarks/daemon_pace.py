"""Seconds a shard takes through the daemon, LLM and models aside: python -m star_pipeline_tests.benchmarks.daemon_pace --shards 10

A real webserver and daemon on a fresh lake; scorer and embedder are instant fakes, the LLM server is on loopback.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline.defs.jobs import LOOP
from star_pipeline_tests.benchmarks.killed_backfill import answer
from star_pipeline_tests.conftest import CONFIG, seed_rows
from star_pipeline_tests.daemon import dagster_ui
from star_pipeline_tests.llm_server import chat_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--shard-size", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, chat_server(answer) as server:
        folder = Path(place)
        agents = {name: {"model": f"hosted_vllm/{name}", "api_base": server.url} for name in "ab"}
        config, lake = folder / "config.yaml", Lake.at(folder / "lake")
        config.write_text(
            json.dumps({**CONFIG, "agents": agents, "sampling": {**CONFIG["sampling"], "shard_size": args.shard_size}})
        )
        lake.prepare()
        lake.write_bytes(lake.seeds / "seeds.json", json.dumps(seed_rows(args.shard_size * args.shards)).encode())
        with dagster_ui(lake, config, folder / "dev.log") as daemon:
            assert daemon.finish(daemon.launch("take_in_seeds")) == "SUCCESS"
            began = time.monotonic()
            status = daemon.finish_backfill(daemon.backfill(LOOP, lake.catalog_shards()), 1800)
            seconds = time.monotonic() - began
            done = [run for run in daemon.runs() if run["partition"] and run["status"] == "SUCCESS"]
    pace = statistics.median(b["startTime"] - a["startTime"] for a, b in itertools.pairwise(done))
    own = statistics.median(run["endTime"] - run["startTime"] for run in done)
    print(
        f"{status}: {len(done)} shards in {seconds:.0f} s; {pace:.1f} s from shard to shard, {own:.1f} s of it in the run (medians)"
    )


if __name__ == "__main__":
    main()
