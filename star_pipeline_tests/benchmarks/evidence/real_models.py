"""The evidence with real models: the product scores recorded answers under two of them, and tunes the smaller one on what each arm takes.

    OMP_NUM_THREADS=1 python -m star_pipeline_tests.benchmarks.evidence.real_models --tape FILE --fastchat FOLDER \\
        --small FOLDER --large FOLDER --out FOLDER [--part scores|study|all] [--settings FILE]

``small`` and ``large`` are folders of Hugging Face models; ``fastchat`` holds FastChat's questions and GPT-4's reference answers to them.
Sizes and settings are real_models.yaml's. The lake is OUT/lake: a part that was stopped goes on when it is called again. OUT/scores.jsonl
holds a line a candidate, numbers alone: what parts.py simulates with.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import LineProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.commands.study import run_study
from star_pipeline.core import tables
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.ports import Progress
from star_pipeline.core.study.records import StudyArm, StudyResult
from star_pipeline.core.study.results import ALL
from star_pipeline_tests.benchmarks.evidence.page import table
from star_pipeline_tests.benchmarks.evidence.playback import played
from star_pipeline_tests.benchmarks.evidence.prepared import configured

SETTINGS = Path(__file__).with_suffix(".yaml")


def scores_of(lake: Lake) -> Iterator[JsonObject]:
    """A line a candidate: which seed and pair, its scores, nothing of its text."""
    for shard in lake.catalog_shards():
        if not lake.has_table(tables.COMPOSITE_SCORES, shard):
            return
        instructions = {seed.seed_id: seed.instruction for seed in lake.read_table(tables.SEED_SHARDS, shard)}
        ifd = {row.candidate_id: row for row in lake.read_table(tables.IFD_SCORES, shard)}
        for row in lake.read_table(tables.COMPOSITE_SCORES, shard):
            of = ifd[row.candidate_id]
            name = hashlib.sha256(instructions[row.seed_id].encode()).hexdigest()
            yield {
                "seed": name, "pair": row.pair_id, "slot": row.slot, "status": of.status, "truncated": of.truncated,
                "n_tokens": of.n_tokens_small, "n_tokens_large": of.n_tokens_large, "ifd_small": of.ifd_small, "ifd_large": of.ifd_large,
                "nll_given": of.nll_given_small, "gap": of.gap, "gap_calibrated": of.gap_calibrated, "pi_llm": row.pi_llm,
                "pi_dual": row.pi_dual, "selected": row.selected, "shard": shard,
            }  # fmt: skip  # a group a line


def compared(arms: Sequence[StudyArm], results: Sequence[StudyResult]) -> str:
    """A row an arm and part of the held-out questions: its tokens, and how much lower or higher its loss is than the seeds' arm's."""
    tokens = {arm.arm: arm for arm in arms}
    lines = []
    for row in sorted(results, key=lambda row: (row.part != ALL, row.part)):
        of = tokens.get(row.arm)
        lines.append([
            row.arm, f"{row.n:,}", row.part, f"{of.rows:,}" if of else "", f"{of.tokens:,}" if of else "", f"{row.figure:.4f}",
            "" if row.difference is None else f"{row.difference:+.4f} ({row.low:+.4f} to {row.high:+.4f})", 
            "" if row.detectable is None else f"{row.detectable:.4f}",
        ])  # fmt: skip  # a row
    return table("arm | questions | part | rows | response tokens | loss | from the seeds | detectable", lines)


def main(given: Sequence[str] | None = None, progress: Progress | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tape", "fastchat", "small", "large", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument("--part", choices=["scores", "study", "all"], default="all")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    lake = Lake.at(options.out / "lake")
    with played(options.tape) as options.url:
        config, seeds = configured(options)
        if options.part != "study":
            run_pipeline(str(config), lake, [str(seeds)], progress or LineProgress(60))
            lines = [json.dumps(row) for row in scores_of(lake)]
            (options.out / "scores.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
            print(f"{len(lines):,} candidates scored")
        if options.part != "scores":
            made, outcome, _ = run_study(str(config), lake, progress or LineProgress(60))
            print(compared(made.arms, outcome.results))


if __name__ == "__main__":
    main()
