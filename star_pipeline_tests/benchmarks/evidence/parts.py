"""What each part of the method is worth with the gaps of real models (Table 3), and whether pairs part with them (Figure 5): no call.

    python -m star_pipeline_tests.benchmarks.evidence.parts --tape FILE --scores FILE --out FOLDER [--runs 40] [--seeds 779] [--long 10]

``scores`` is what tuned.py or real_models.py wrote of a matrix in which all ten pairs answered every seed. A run draws its own questions
from the scored ones with replacement (a bootstrap sample of them), and then its seeds from those: so ranges over runs hold what the
questions leave open. Arms are compared run by run. A line a run goes to OUT/parts.jsonl, and what is there is not done again.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from star_pipeline.core.aliases import JsonObject, Vectors
from star_pipeline.core.equations.calibration import Calibration
from star_pipeline.core.intervals import Estimate
from star_pipeline_tests.benchmarks.evidence.courses import Arm, Setting, run_course, seeds_of
from star_pipeline_tests.benchmarks.evidence.gaps import RULES, Scored, scored
from star_pipeline_tests.benchmarks.evidence.page import shown, table
from star_pipeline_tests.benchmarks.evidence.recorded import embedded

EQ8, THOMPSON = Arm("eq8 0.05", "eq8", 0.05), Arm("thompson", "thompson")
PAPER, UNIFORM = Arm("eq8 0.001", "eq8", 0.001), Arm("uniform", "eq8")
M, SHARD = 3, 64


@dataclass(frozen=True)
class Way:
    """A run of the loop: how pairs are drawn, and what reward evolution and selection see."""

    name: str
    arm: Arm
    reward: str = "both"
    calibration: Calibration = "none"
    seeds: int = 0


def ways(seeds: int) -> Iterator[Way]:
    remembering = replace(THOMPSON, name="thompson, memory", from_memory=1)
    for rule in RULES:
        yield Way(f"whole, {rule}", remembering, calibration=rule)
        yield Way(f"without memory, {rule}", THOMPSON, calibration=rule)
        yield Way(f"without evolution, {rule}", replace(UNIFORM, from_memory=1), calibration=rule)
        yield Way(f"without judge, {rule}", remembering, "gap", rule)
    yield Way("without gap", remembering, "judge")
    for rule in RULES:
        for arm in (PAPER, EQ8):
            yield Way(f"{arm.name}, {rule}", arm, calibration=rule)
    for rule in RULES:
        for arm in (PAPER, EQ8, THOMPSON):
            yield Way(f"{arm.name}, 16,000 seeds, {rule}", arm, calibration=rule, seeds=16_000)
        yield Way(f"{PAPER.name}, 70,000 seeds, {rule}", PAPER, calibration=rule, seeds=70_000)


def one_run(given: Scored, way: Way, seeds: int, vectors: Vectors, run: int) -> JsonObject:
    """A line of parts.jsonl: ``pi`` is what the way itself sees, ``pi_llm`` and ``odds`` what GPT-4 says of what it selected."""
    some = np.random.default_rng((23, run)).integers(len(given.judged.pi), size=len(given.judged.pi))
    seen = given.reward(way.reward, way.calibration)
    sample = replace(
        seen, instructions=tuple(seen.instructions[n] for n in some), pi=seen.pi[some], usd=seen.usd[some], base_pi=seen.base_pi[some]
    )  # fmt: skip  # one construction
    count = way.seeds or seeds
    setting = Setting(M, count, shard=256 if count > 2000 else SHARD)
    outcome = run_course(way.arm, setting, sample, vectors[some], run)
    order = some[seeds_of(setting, sample, run)]
    everything = np.column_stack([given.judged.pi, given.judged.base_pi])
    top = int(np.argmax(outcome.moves[-1]))
    return {
        "way": way.name, "run": run, "seeds": count, "pi": float(outcome.selected.mean()),
        "pi_llm": float(everything[order, outcome.picked].mean()), "odds": float(given.odds[order, outcome.picked].mean()),
        "reference": float((outcome.picked < 0).mean()), "top": sample.pairs[top],
        "best": sample.pairs[int(np.argmax(np.bincount(some, minlength=len(seen.pi)) @ seen.pi))],
        "probabilities": dict(zip(sample.pairs, map(float, outcome.moves[-1]), strict=True)),
    }  # fmt: skip  # a group a line


def told(rows: Sequence[JsonObject]) -> Iterator[str]:
    of = pd.DataFrame(rows)
    counted = of["run"].value_counts()
    of = of[of["run"].isin(counted.index[counted >= len([way for way in ways(0) if not way.seeds])])]  # whole ones
    yield f"{of['run'].nunique()} runs"
    pi_llm, odds = (of.pivot(index="run", columns="way", values=name) for name in ("pi_llm", "odds"))
    lines = []
    for rule in RULES:
        whole = f"whole, {rule}"
        lines.append([rule, "whole", shown(around(pi_llm[whole]), digits=3), "", ""])
        for part in ("without memory", "without evolution", "without judge", "without gap"):
            name = part if part == "without gap" else f"{part}, {rule}"
            apart = [shown(around(values[name] - values[whole]), "+", 3) for values in (pi_llm, odds)]
            lines.append([rule, part, shown(around(pi_llm[name]), digits=3), *apart])
    yield table("calibration | part | mean selected π_llm | from the whole | log-odds of GPT-4, from the whole", lines)
    beside = [(f"whole, {rule}", "whole, none") for rule in RULES[1:]] + [("whole, rank_by_length", "whole, rank")]
    for rule in RULES:
        beside += [(f"without memory, {rule}", f"{arm.name}, {rule}") for arm in (EQ8, PAPER)]
    lines = [
        [one, other, *(shown(around(values[one] - values[other]), "+", 3) for values in (pi_llm, odds))]
        for one, other in beside
    ]
    yield table("way | less | π_llm of what is selected | log-odds of GPT-4", lines)
    lines = []
    for name in dict.fromkeys(of["way"]):
        mine = of[of["way"] == name]
        chances = pd.DataFrame(list(mine["probabilities"]))
        first = list(mine["top"].value_counts().items())[:3]
        lines.append([
            name, f"{mine['seeds'].iloc[0]:,}", f"{len(mine)}", shown(around(mine["pi"]), digits=3),
            f"{(mine['top'] == mine['best']).sum()}", f"{mine['reference'].mean():.0%}",
            ", ".join(f"{pair.removeprefix('keep+')} {count}" for pair, count in first),
            *(shown(around(100 * chances[f"keep+{model}"]), digits=1) for model in ("OpenHermes-2.5-Mistral-7B", "phi-2")),
        ])  # fmt: skip  # a row
    yield table("way | seeds | runs | mean selected π (its own) | best pair first | the reference is selected | which was first | "
                "Mistral-7B, % | Phi-2, %", lines)  # fmt: skip


def around(values: Iterable[float]) -> Estimate | None:
    """The mean, and what 95% of the runs lie within: each run has a bootstrap sample of the questions."""
    found = [float(value) for value in values]
    if not found:
        return None
    low, high = np.quantile(found, (0.025, 0.975))
    return Estimate(float(np.mean(found)), float(low), float(high), len(found))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tape", "scores", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=779)
    parser.add_argument(
        "--long", type=int, default=0, help="so many runs of 16,000 and 70,000 seeds too: half a minute each"
    )
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    found = scored(options.tape, options.scores)
    vectors = embedded(found.judged, options.out / f"instructions-{len(found.judged.pi)}.npy")
    kept = options.out / "parts.jsonl"
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}}")]
    kept.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    done = {(row["way"], row["run"]) for row in rows}
    with kept.open("a", encoding="utf-8") as file:
        for run in range(options.runs):
            for way in ways(options.seeds):
                if (way.name, run) not in done and (run < options.long or not way.seeds):
                    rows.append(one_run(found, way, options.seeds, vectors, run))
                    file.write(json.dumps(rows[-1]) + "\n")
                    file.flush()
    for part in told(rows):
        print(part, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
