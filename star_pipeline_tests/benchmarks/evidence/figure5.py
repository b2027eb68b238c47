"""The paper's Figure 5 on recorded answers: where ten pairs' probabilities go that begin at 10% each, at which β and in how many seeds.

    python -m star_pipeline_tests.benchmarks.evidence.figure5 --tape FILE --out FOLDER

Ten LLMs of the tape, ChatGPT as base, π_llm alone from GPT-4's recorded preferences, seeds drawn from the recorded ones with replacement.
Plans and folds are the product's. A line a run goes to FOLDER/figure5.jsonl as soon as it is done, and is not done again. Draws
FOLDER/figure5.svg.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.intervals import Estimate, mean
from star_pipeline_tests.benchmarks.evidence.courses import Arm, Setting, run_course
from star_pipeline_tests.benchmarks.evidence.paper_loop import TEN
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, read

SHARD = 256
MISTRAL, PHI, CHATGLM = "keep+OpenHermes-2.5-Mistral-7B", "keep+phi-2", "keep+chatglm2-6b"
PLACES = 40


def wanted() -> Iterator[tuple[Arm, Setting, int]]:
    """(arm, setting, runs)."""
    for count in (3, 5):
        for arm, runs in ((Arm("eq8 0.001", "eq8", 1e-3), 8), (Arm("eq8 0.01", "eq8", 1e-2), 6), (Arm("eq8 0.05", "eq8", 5e-2), 6),
                          (Arm("thompson", "thompson"), 6)):  # fmt: skip
            yield arm, Setting(count, 16_000, shard=SHARD), runs
    yield Arm("eq8 0.001", "eq8", 1e-3), Setting(5, 70_000, shard=SHARD), 8
    yield Arm("eq8 0.001", "eq8", 1e-3), Setting(3, 70_000, shard=SHARD), 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tape", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "figure5.jsonl"
    rows: list[JsonObject] = (
        [json.loads(line) for line in kept.read_text("utf-8").splitlines()] if kept.exists() else []
    )
    tape = [json.loads(line) for line in options.tape.read_text("utf-8").splitlines()]
    others = {name for row in tape for name in row["answers"]} - {CHATGPT, *TEN}
    matrix = read(options.tape, CHATGPT, tuple(others))
    with kept.open("a", encoding="utf-8") as file:
        for arm, setting, runs in wanted():
            for run in range(runs):
                key = {"arm": arm.name, "pairs_per_seed": setting.pairs_per_seed, "seeds": setting.seeds, "run": run}
                if not any(key.items() <= row.items() for row in rows):
                    moves = run_course(arm, setting, matrix, None, run).moves
                    step = max(1, len(moves) // PLACES)
                    reached = np.flatnonzero(moves[:, matrix.pairs.index(MISTRAL)] >= 0.3)
                    rows.append({
                        **key, "pairs": matrix.pairs, "places": [SHARD * (n + 1) for n in range(step - 1, len(moves), step)],
                        "moves": [[round(float(p), 6) for p in moves[n]] for n in range(step - 1, len(moves), step)],
                        "reached": int(SHARD * (reached[0] + 1)) if len(reached) else None,
                    })  # fmt: skip
                    file.write(json.dumps(rows[-1]) + "\n")
                    file.flush()
            told(rows, arm, setting, runs)
    plot(rows, options.out / "figure5.svg")


def told(rows: list[JsonObject], arm: Arm, setting: Setting, runs: int) -> None:
    """A row of the table, for each pair of interest its last probability with its interval over runs."""
    mine = [
        row for row in rows
        if (row["arm"], row["pairs_per_seed"], row["seeds"]) == (arm.name, setting.pairs_per_seed, setting.seeds) and row["run"] < runs
    ]  # fmt: skip
    ends = {
        pair: mean([row["moves"][-1][row["pairs"].index(pair)] for row in mine]) for pair in (MISTRAL, CHATGLM, PHI)
    }
    first = sum(row["pairs"][int(np.argmax(row["moves"][-1]))] == MISTRAL for row in mine)
    reached = [row["reached"] for row in mine if row["reached"]]
    print(
        f"| {arm.name} | {setting.pairs_per_seed} | {setting.seeds:,} | {len(mine)} | {' | '.join(shown(end) for end in ends.values())} | "
        f"{first} | {len(reached)}{f', after {min(reached):,} to {max(reached):,} seeds' if reached else ''} |",
        flush=True,
    )


def shown(found: Estimate | None) -> str:
    return f"{found.figure:.1%} ({found.low * 100:.1f} to {found.high * 100:.1f})" if found else ""


def plot(rows: list[JsonObject], path: Path) -> None:
    """The mean probability over runs of each pair, by seeds, a panel an arm, with the range of the runs as a band."""
    import altair as alt
    import pandas as pd

    data = pd.DataFrame(
        {
            "arm": row["arm"],
            "M": row["pairs_per_seed"],
            "seeds": place,
            "pair": pair.removeprefix("keep+"),
            "probability": p,
        }
        for row in rows
        if row["seeds"] == 16_000 and row["pairs_per_seed"] == 3
        for place, ps in zip(row["places"], row["moves"], strict=True)
        for pair, p in zip(row["pairs"], ps, strict=True)
    )
    of = data.groupby(["arm", "seeds", "pair"])["probability"].agg(["mean", "min", "max"]).reset_index()
    legend = alt.Legend(symbolOpacity=1, symbolType="stroke", symbolStrokeWidth=3)
    colour = alt.Color("pair:N", title="keep +", scale=alt.Scale(scheme="tableau10"), legend=legend)
    base = alt.Chart(of).encode(x=alt.X("seeds:Q", title="seeds"), color=colour)
    lines = base.mark_line().encode(y=alt.Y("mean:Q", title="probability", axis=alt.Axis(format="%")))
    band = base.mark_area(opacity=0.15).encode(y="min:Q", y2="max:Q")
    chart = alt.layer(band, lines).properties(width=260, height=200)
    chart.facet(alt.Facet("arm:N", title=None), columns=2).save(str(path))


if __name__ == "__main__":
    main()
