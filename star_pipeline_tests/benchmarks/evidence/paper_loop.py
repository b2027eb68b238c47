"""The paper's loop on recorded answers of its own LLM families: the product unmodified, ten pairs at 10% each, ChatGPT as base, GPT-4's
recorded preferences as judge; and that the simulation of the other benchmarks is what the product does, to the last bit.

    python -m star_pipeline_tests.benchmarks.evidence.paper_loop --tape FILE --url http://127.0.0.1:PORT/v1 --out FOLDER [--seeds 533]

``url`` is a server that plays the tape back under the models' names, and judges as ``gpt4-judge``. The scoring models are those of the
offline profile, toys: with them π_dual says nothing of real models. A run of each configuration stays in FOLDER and goes on where it was.
"""

import argparse
import json
from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.config import StarConfig, load_config
from star_pipeline.core import tables
from star_pipeline.core.equations.evolution import FoldInputs, fold_shard, initial_snapshot, snapshot_of
from star_pipeline.core.equations.sampling import plan_shard
from star_pipeline.core.intervals import mean, share
from star_pipeline.core.records import CompositeScore, PlanRow, Seed
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, JUDGE, TEN, Matrix, read

EVOLUTIONS = {
    "eq8-0.001": {"method": "eq8", "rate": 1e-3},
    "eq8-0.05": {"method": "eq8", "rate": 0.05},
    "thompson": {"method": "thompson"},
}


def configuration(folder: Path, url: str, name: str, shard: int) -> Path:
    agents = {agent: {"model": f"hosted_vllm/{agent}", "api_base": url} for agent in (CHATGPT, JUDGE, *TEN)}
    settings = {
        "name": name,
        "agents": agents,
        "pairs": {"sampled": [f"keep+{agent}" for agent in TEN], "base": [f"keep+{CHATGPT}"], "include_seed": False},
        "sampling": {"pairs_per_seed": 3, "from_memory": 0, "shard_size": shard},
        "scoring": {"small": "offline/small", "large": "offline/large", "template": "alpaca", "max_length": 512},
        "judge": {"agent": JUDGE, "skip_nonpositive_gap": False},
        "evolution": EVOLUTIONS[name],
        "journal": str(folder / "journal"),
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(settings))
    return path


def simulated_as_run(config: StarConfig, lake: Lake) -> tuple[int, int]:
    """(shards whose snapshot the simulation gives to the last bit, shards): plans and folds from the start, without the lake's own plans
    or snapshots. Only what a drawn candidate earned is looked up; one that the product did not draw has nothing to look up."""
    snapshot, same, shards = initial_snapshot(config.sampled_ids), 0, lake.catalog_shards()
    for shard in shards:
        seeds: list[Seed] = lake.read_table(tables.SEED_SHARDS, shard)
        plan: list[PlanRow] = plan_shard(seeds, snapshot, [[] for _ in seeds], config.sampling_rules)
        earned: dict[str, CompositeScore] = {
            row.candidate_id: row for row in lake.read_table(tables.COMPOSITE_SCORES, shard)
        }
        if any(row.candidate_id not in earned for row in plan):
            break
        scores = [earned[row.candidate_id] for row in plan]
        folded = fold_shard(snapshot, FoldInputs(shard, seeds, plan, scores), config.evolution_rules)
        same += folded == lake.read_table(tables.AGENT_PAIR_PROBABILITIES, shard)
        snapshot = snapshot_of(folded)
    return same, len(shards)


def verdicts_as_recorded(lake: Lake, matrix: Matrix) -> tuple[int, int]:
    """(verdicts whose π_llm is the matrix's, verdicts) of the drawn pairs."""
    place, seed_place = (
        {pair: n for n, pair in enumerate(matrix.pairs)},
        {text: n for n, text in enumerate(matrix.instructions)},
    )
    same = count = 0
    for shard in lake.catalog_shards():
        seeds = {seed.seed_id: seed.instruction for seed in lake.read_table(tables.SEED_SHARDS, shard)}
        pair_of = {row.candidate_id: row.pair_id for row in lake.read_table(tables.SAMPLING_PLAN, shard)}
        for row in lake.read_table(tables.JUDGE_VERDICTS, shard):
            if (pair := pair_of[row.candidate_id]) in place and row.pi_llm is not None:
                count += 1
                same += row.pi_llm == matrix.pi[seed_place[seeds[row.seed_id]], place[pair]]
    return same, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tape", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=533)
    parser.add_argument("--shard", type=int, default=64)
    parser.add_argument("--only", nargs="+", choices=list(EVOLUTIONS), default=["eq8-0.05", "thompson"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.tape.read_text("utf-8").splitlines()][: options.seeds]
    file = options.out / "seeds.json"
    file.write_text(json.dumps([{"instruction": row["instruction"], "output": row["reference"]} for row in rows]))
    others = {name for row in rows for name in row["answers"]} - {CHATGPT, *TEN}
    matrix, models = read(options.tape, CHATGPT, tuple(others)), options.out / "models"
    for name in options.only:
        lake = Lake.at(options.out / name)
        if models.exists() and not lake.models.exists():  # trained once for all
            Path(lake.local(lake.models)).parent.mkdir(parents=True, exist_ok=True)
            Path(lake.local(lake.models)).symlink_to(models.resolve())
        path = configuration(options.out, options.url, name, options.shard)
        run_pipeline(str(path), lake, [str(file)], SilentProgress())
        if not models.exists():
            models.symlink_to(Path(lake.local(lake.models)).resolve())
        same, shards = simulated_as_run(load_config(str(path)), lake)
        right, of = verdicts_as_recorded(lake, matrix)
        found, last = share(right, of), lake.read_table(tables.AGENT_PAIR_PROBABILITIES, lake.catalog_shards()[-1])
        selected = {
            row.seed_id: row.pi or 0.0
            for key in lake.catalog_shards()
            for row in lake.read_table(tables.COMPOSITE_SCORES, key)
            if row.selected
        }
        pi = mean(list(selected.values()))
        assert found
        assert pi
        print(f"{name}: {same} of {shards} snapshots simulated to the last bit; {right:,} of {of:,} verdicts as recorded "
              f"({found.low:.1%} to {found.high:.1%}); mean selected pi {pi.figure:.4f} ({pi.low:.4f} to {pi.high:.4f})")  # fmt: skip
        for row in sorted(last, key=lambda row: -row.probability):
            print(f"  {row.pair_id}: {row.probability:.1%}", flush=True)


if __name__ == "__main__":
    main()
