"""Evolution against what one would use instead, on recorded answers: every pair's π is known for every seed, so regret is exact.

    python -m star_pipeline_tests.benchmarks.evidence.regret --tape FILE --out FOLDER [--study smoke|size|lag|memory|domains|calls|cost|all]

``FILE`` holds a line a question: ``instruction``, ``reference`` and ``answers`` by model, each with ``win``, the probability with which
GPT-4 preferred it to the reference. No LLM is called: plans and folds are the product's own. A line a run goes to FOLDER/runs.jsonl as
soon as it is done, and what is there is not done again; tables with intervals over runs are printed and written beside it.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from star_pipeline.core.aliases import JsonObject, Values
from star_pipeline.core.intervals import Estimate, mean
from star_pipeline_tests.benchmarks.evidence.courses import Arm, Setting, run_course, seeds_of
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, Matrix, embedded, read, with_gaps, write_answers

SMALL, LARGE = 779, 16_000
UNIFORM, DEFAULT, THOMPSON = Arm("uniform", "eq8"), Arm("eq8 0.001", "eq8", 1e-3), Arm("thompson", "thompson")
RATES = tuple(Arm(f"eq8 {rate:g}", "eq8", rate) for rate in (1e-2, 5e-2, 1e-1))
OTHERS = (Arm("gaussian", "gaussian", 0.5), Arm("ucb", "ucb", 0.3))
BEST = RATES[1]
COINS = Arm("thompson, draws as coins", "coins")


@dataclass(frozen=True)
class Comparison:
    """Arms under one setting, ``runs`` run seeds each; ``against``: the arm that the others' differences are from."""

    study: str
    setting: Setting
    arms: tuple[Arm, ...]
    runs: int
    against: str
    reward: str = "judge"
    base: str = CHATGPT


def scaled(seeds: int) -> Arm:
    """β so that all seeds together weigh the same: 40 over their number, at most 0.1."""
    return Arm("eq8 40/seeds", "eq8", min(0.1, 40 / seeds))


def studies() -> Iterator[Comparison]:
    """The quick ones first: those of 16,000 seeds take minutes an arm."""
    yield Comparison("smoke", Setting(2, 256), (UNIFORM, BEST, THOMPSON), 3, "thompson")
    for count in (2, 3, 5):
        yield Comparison(
            "size", Setting(count, SMALL), (UNIFORM, DEFAULT, *RATES, scaled(SMALL), THOMPSON, *OTHERS), 40, "thompson"
        )
    for count, remembered in ((2, 1), (3, 1), (5, 2)):
        arms = tuple(
            Arm(f"{arm.name}, memory {weighting}", arm.kind, arm.rate, from_memory=remembered, weighting=weighting)
            for arm in (UNIFORM, BEST, THOMPSON)
            for weighting in ("similarity", "probability")
        )
        bare = tuple(Arm(f"{arm.name}, no memory", arm.kind, arm.rate) for arm in (UNIFORM, BEST, THOMPSON))
        yield Comparison("memory", Setting(count, 533, once=True), (*arms, *bare), 30, "thompson, no memory")
    for count, runs in ((2, 12), (3, 12), (5, 12)):
        arms = (UNIFORM, DEFAULT, *RATES, scaled(LARGE), THOMPSON, OTHERS[1])
        yield Comparison("size", Setting(count, LARGE), arms, runs, "thompson")
    yield Comparison("lag", Setting(3, SMALL), (UNIFORM, *lagged((BEST, THOMPSON, OTHERS[1]))), 20, "thompson, lag 0")
    for setting in (Setting(3, SMALL, shard=32), Setting(3, SMALL, shard=16), Setting(3, 3_200), Setting(3, LARGE)):
        yield Comparison("lag", setting, (UNIFORM, *lagged((BEST, THOMPSON))), 20, "thompson, lag 0")
    arms = tuple(
        Arm(f"{arm.name}, {weight} per USD", arm.kind, arm.rate, cost_weight=weight)
        for arm in (BEST, THOMPSON)
        for weight in (0, 100, 1000)
    )
    yield Comparison("cost", Setting(2, SMALL), arms, 20, "thompson, 0 per USD")
    for count in (1, 2, 3, 5, 8, 10, 12):
        yield Comparison("calls", Setting(count, SMALL), (UNIFORM, BEST, THOMPSON), 20, "thompson")
    split = tuple(Arm(f"thompson, {n} domains", "thompson", domains=n) for n in (3, 8))
    yield Comparison("domains", Setting(3, SMALL), (THOMPSON, *split), 20, "thompson")
    yield Comparison(
        "gaps",
        Setting(3, SMALL),
        (UNIFORM, DEFAULT, *RATES, THOMPSON, *OTHERS, COINS),
        60,
        "thompson",
        "judge and toy gaps",
    )
    for base in ("vicuna-7b-v1.5", "phi-2"):
        arms = (UNIFORM, DEFAULT, BEST, THOMPSON, OTHERS[1])
        yield Comparison(f"base {base}", Setting(3, SMALL), arms, 20, "thompson", f"judge, base {base}", base)


def lagged(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """With lags 0, 2 and 8, and where there is one with small shards first, too."""
    return tuple(
        replace(arm, name=f"{arm.name}, lag {lag}" + (", small shards first" if first else ""), lag=lag, first=first)
        for arm in arms
        for lag, first in ((0, 0), (2, 0), (2, 8), (8, 0), (8, 8))
    )


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tape", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--study", default="size")
    parser.add_argument(
        "--gaps", type=Path, help="for the study gaps: what `star-pipeline score` wrote of --write-answers' file"
    )
    parser.add_argument(
        "--write-answers", type=Path, help="write all answers as a file of seeds, to be scored; nothing else is done"
    )
    options = parser.parse_args(given)
    if options.write_answers:
        write_answers(options.tape, options.write_answers)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    matrix = read(options.tape)
    vectors = (
        embedded(matrix, options.out / "instructions.npy") if options.study in ("memory", "domains", "all") else None
    )
    done = known_runs(options.out)
    for comparison in studies():
        if comparison.study.split()[0] != options.study and (options.study != "all" or comparison.study == "smoke"):
            continue
        if comparison.study == "gaps" and not options.gaps:
            print("gaps: left out, since --gaps names no scores")
            continue
        used = matrix if comparison.base == CHATGPT else read(options.tape, comparison.base)
        used = with_gaps(used, options.tape, options.gaps) if comparison.study == "gaps" else used
        with (options.out / "runs.jsonl").open("a", encoding="utf-8") as kept:
            for run in range(comparison.runs):
                for arm in comparison.arms:
                    if key_of(comparison, arm.name, run) not in done:
                        row = one_run(comparison, arm, used, vectors, run)
                        kept.write(json.dumps(row) + "\n")
                        kept.flush()
                        done[key_of(comparison, arm.name, run)] = row
        print(told(comparison, done), flush=True)


Key = tuple[str, str, int, int, int, int]


def key_of(comparison: Comparison, arm: str, run: int) -> Key:
    setting = comparison.setting
    return comparison.study, arm, setting.pairs_per_seed, setting.seeds, setting.shard, run


def known_runs(folder: Path) -> dict[Key, JsonObject]:
    path = folder / "runs.jsonl"
    if not path.exists():
        return {}
    # a line that was being written when the study was stopped is made again
    lines = [line for line in path.read_text("utf-8").splitlines() if line.endswith("}}")]
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    rows = [json.loads(line) for line in lines]
    return {
        (row["study"], row["arm"], row["pairs_per_seed"], row["seeds"], row.get("shard", 64), row["run"]): row
        for row in rows
    }


def one_run(comparison: Comparison, arm: Arm, matrix: Matrix, vectors: Values | None, run: int) -> JsonObject:
    began, setting = time.monotonic(), comparison.setting
    outcome = run_course(arm, setting, matrix, vectors, run)
    oracle, best = (
        matrix.best(seeds_of(setting, matrix, run), setting.pairs_per_seed)
        if setting.pairs_per_seed < 6
        else (None, ())
    )
    top = int(np.argmax(outcome.moves[-1]))
    return {
        "study": comparison.study, "arm": arm.name, "pairs_per_seed": setting.pairs_per_seed, "seeds": setting.seeds,
        "shard": setting.shard, "run": run,
        "selected": float(outcome.selected.mean()), "usd": float(outcome.usd.mean()), "calls": outcome.calls, "oracle": oracle,
        "oracle_pairs": best, "last_quarter": float(outcome.selected[-(setting.seeds // 4) :].mean()), "top": matrix.pairs[top],
        "top_probability": float(outcome.moves[-1][top]),
        "probabilities": dict(zip(matrix.pairs, map(float, outcome.moves[-1]), strict=True)),
        "draws": dict(zip(matrix.pairs, map(int, outcome.draws), strict=True)), "seconds": time.monotonic() - began, "rules": asdict(arm),
    }  # fmt: skip  # a column each


def told(comparison: Comparison, done: dict[Key, JsonObject]) -> str:
    """A table: mean selected π and USD a thousand seeds, and the difference from one arm run by run, with intervals over run seeds."""
    setting = comparison.setting
    runs = {
        arm.name: [done[key_of(comparison, arm.name, run)] for run in range(comparison.runs)] for arm in comparison.arms
    }
    beside = np.array([row["selected"] for row in runs[comparison.against]])
    lines = [
        f"\n**{comparison.study}**: M = {setting.pairs_per_seed}, {setting.seeds:,} seeds in shards of {setting.shard}, "
        f"{comparison.runs} runs, reward {comparison.reward}\n",
        f"| arm | mean selected π | from {comparison.against} | regret | most probable pair, in runs | USD a 1,000 seeds |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in runs.items():
        values = np.array([row["selected"] for row in rows])
        figure, apart, usd = mean(list(values)), mean(list(values - beside)), mean([1000 * row["usd"] for row in rows])
        regret = mean([row["oracle"] - row["selected"] for row in rows]) if rows[0]["oracle"] is not None else None
        tops = sorted({row["top"] for row in rows}, key=lambda top: (-sum(row["top"] == top for row in rows), top))
        assert figure
        assert apart
        assert usd
        counted = ", ".join(f"{top} {sum(row['top'] == top for row in rows)}" for top in tops[:3])
        lines.append(
            f"| {name} | {shown(figure)} | {shown(apart, '+')} | {shown(regret) if regret else ''} | {counted} | {usd.figure:.3f} |"
        )
    return "\n".join(lines)


def shown(found: Estimate, sign: str = "") -> str:
    return f"{found.figure:{sign}.4f} ({found.low:{sign}.4f} to {found.high:{sign}.4f})"


if __name__ == "__main__":
    main()
