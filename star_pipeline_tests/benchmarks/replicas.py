"""What scoring on Ray costs: its time as a ratio to the local scorer's, within one run, on one replica of as many threads.

    python -m star_pipeline_tests.benchmarks.replicas [--model FOLDER_OR_ID] [--samples 200] [--threads 1] [--rounds 3]

Without a model, a random GPT-NeoX (hidden 256, 4 layers). Losses have to be equal bit by bit. The time to start replicas is told apart.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from upath import UPath

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring import scorer_of
from star_pipeline.adapters.scoring.replicas import cluster, pool
from star_pipeline.adapters.scoring.weights import weights_of
from star_pipeline.config.scoring import ScoringConfig
from star_pipeline.core.ports import ScoringSample
from star_pipeline_tests.ray_nodes import ray_nodes
from star_pipeline_tests.tiny_models import save_gpt_neox

WORDS = "the sea is wide and the wind that comes over it tells of ships and of weather to come"


def texts(count: int) -> list[ScoringSample]:
    """Different ones of 10 to 160 words."""
    made, known = [], WORDS.split()
    for number in range(count):
        length = 10 + 37 * number % 150
        words = [known[(number + 7 * place) % len(known)] for place in range(length)]
        made.append(ScoringSample(None, (), f"Go on with text {number}.", f"{number} " + " ".join(words)))
    return made


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = act()
    return time.perf_counter() - began, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    samples = texts(given.samples)
    kept = [len(sample.response) for sample in samples]
    with tempfile.TemporaryDirectory() as folder, ray_nodes(1, given.threads) as nodes:
        made = [sample.response for sample in samples]
        source = given.model or str(save_gpt_neox(Path(folder) / "m", made, 0, 256, 4, context=1024))
        record = UPath(Path(folder) / "numerics.json")
        settled = {"dtype": "float32", "device": "cpu", "threads": given.threads, "linear": "default"}
        record.write_text(json.dumps(settled))
        torch.set_num_threads(given.threads)

        def scorer(**engine: Any) -> Any:
            scoring = ScoringConfig(small=source, large=source, template="plain", **engine)
            weights = weights_of(source, "plain")
            return scorer_of(
                source, scoring, record, SilentProgress(), template="plain", start="token", weights=weights
            )

        local, ray = scorer(), scorer(engine="ray", ray={"address": nodes.address, "gpus": 0})
        started, _ = timed(ray.prepare)
        local.losses(samples[:2], kept[:2])
        times: dict[str, list[float]] = {"local": [], "ray": []}
        equal = True
        for _round in range(given.rounds):
            found = {}
            for name, one in (("local", local), ("ray", ray)):
                seconds, found[name] = timed(lambda one=one: one.losses(samples, kept))
                times[name].append(seconds)
            equal = equal and found["local"] == found["ray"]
        pool.close_all()
        cluster.leave()
    best = {name: min(some) for name, some in times.items()}
    print(
        f"local {best['local']:.2f} s, ray {best['ray']:.2f} s: {best['ray'] / best['local']:.2f} times; started in {started:.1f} s"
    )
    print("bytes equal" if equal else "bytes DIFFER")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
