"""What a lag costs with recorded answers of real LLMs and GPT-4's recorded preferences: the mean of the selected candidates' pi.

    python -m star_pipeline_tests.benchmarks.lag_recorded --tape FILE --url http://127.0.0.1:PORT/v1 [--lags 0 2] [--seeds 120]

``FILE`` holds a line a question: ``instruction``, ``reference`` and ``answers`` by model; ``url`` is a server that plays them back under
the models' names, and judges as ``gpt4-judge``. The scoring models are those of the offline profile. Beside each lag stands its
difference from the first one, seed by seed, with its interval.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core import tables
from star_pipeline.core.intervals import mean

BASE, JUDGE = "chatglm2-6b", "gpt4-judge"
SAMPLED = (
    "phi-2", "falcon-7b-instruct", "vicuna-7b-v1.5", "wizardlm-13b", "gemma-7b-it", "Qwen-14B-Chat", "gpt-3.5-turbo-0301",
    "OpenHermes-2.5-Mistral-7B",
)  # fmt: skip  # read as a list


def configuration(folder: Path, url: str, lag: int, options: argparse.Namespace) -> Path:
    agents = {name: {"model": f"hosted_vllm/{name}", "api_base": url} for name in (BASE, JUDGE, *SAMPLED)}
    settings = {
        "name": "recorded",
        "agents": agents,
        "pairs": {"sampled": [f"keep+{name}" for name in SAMPLED], "base": [f"keep+{BASE}"]},
        "sampling": {"pairs_per_seed": 2, "from_memory": 1, "shard_size": options.shard},
        "scoring": {"small": "offline/small", "large": "offline/large", "template": "alpaca", "max_length": 512},
        "judge": {"agent": JUDGE, "skip_nonpositive_gap": False},
        "evolution": {"rate": options.rate, "floor": 0.01, "lag": lag},
    }
    path = folder / f"lag{lag}.yaml"
    path.write_text(json.dumps(settings))
    return path


def selected(lake: Lake) -> dict[str, float]:
    """seed_id -> pi of its selected candidate, 0 where it has none."""
    rows = [row for shard in lake.catalog_shards() for row in lake.read_table(tables.COMPOSITE_SCORES, shard)]
    found = dict.fromkeys((row.seed_id for row in rows), 0.0)
    found.update({row.seed_id: row.pi or 0.0 for row in rows if row.selected})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tape", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--lags", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--seeds", type=int, default=120)
    parser.add_argument("--shard", type=int, default=12)
    parser.add_argument("--models", help="folder with the offline profile's models, where a lake has them already")
    parser.add_argument("--rate", type=float, default=0.02)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.tape.read_text("utf-8").splitlines()]
    rows = [row for row in rows if {BASE, *SAMPLED} <= row["answers"].keys()][: options.seeds]
    with tempfile.TemporaryDirectory() as name:
        folder, first, trained = Path(name), dict[str, float](), options.models
        seeds = [{"instruction": row["instruction"], "output": row["reference"]} for row in rows]
        (folder / "seeds.json").write_text(json.dumps(seeds))
        for lag in options.lags:
            lake = Lake.at(folder / f"lake{lag}")
            if trained:
                shutil.copytree(trained, lake.local(lake.models))
            config = configuration(folder, options.url, lag, options)
            run_pipeline(str(config), lake, [str(folder / "seeds.json")], SilentProgress())
            found, trained = selected(lake), trained or lake.local(lake.models)
            first = first or found
            told = mean(list(found.values()))
            assert told
            said = (
                f"lag {lag}: mean selected pi {told.figure:.4f} ({told.low:.4f} to {told.high:.4f}) over {told.n} seeds"
            )
            if found is not first and (apart := mean([found[seed] - first[seed] for seed in first])):
                said += f"; from lag {options.lags[0]} {apart.figure:+.4f}, 95% interval {apart.low:+.4f} to {apart.high:+.4f}"
            print(said, flush=True)


if __name__ == "__main__":
    main()
