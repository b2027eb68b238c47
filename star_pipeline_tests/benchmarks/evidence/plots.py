"""The plots of the evidence page, from what the study left in its folder.

python -m star_pipeline_tests.benchmarks.evidence.plots --out FOLDER --images FOLDER
"""

import argparse
import json
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.intervals import mean

ORDER = ["uniform", "eq8 0.001", "eq8 0.01", "eq8 0.05", "eq8 0.1", "thompson", "ucb"]


def estimates(rows: list[JsonObject], keys: list[str]) -> pd.DataFrame:
    """The mean selected π of each group of runs, with its interval over them."""
    found = []
    for group, of in pd.DataFrame(rows).groupby(keys):
        if told := mean(list(of["selected"])):
            found.append(
                {
                    **dict(zip(keys, group, strict=True)),
                    "figure": told.figure,
                    "low": told.low,
                    "high": told.high,
                    "runs": told.n,
                }
            )
    return pd.DataFrame(found)


def sizes(rows: list[JsonObject]) -> alt.LayerChart:
    of = estimates(
        [row for row in rows if row["study"] == "size" and row["arm"] in ORDER], ["arm", "pairs_per_seed", "seeds"]
    )
    of["panel"] = [f"M = {m}, {n:,} seeds" for m, n in zip(of["pairs_per_seed"], of["seeds"], strict=True)]
    panels = list(of.sort_values(["pairs_per_seed", "seeds"])["panel"].unique())
    base = alt.Chart(of).encode(y=alt.Y("arm:N", sort=ORDER, title=None))
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", scale=alt.Scale(zero=False), title="mean selected π"), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=50).encode(x="figure:Q")
    return (
        alt.layer(bars, points)
        .properties(width=250, height=130)
        .facet(alt.Facet("panel:N", title=None, sort=panels), columns=2)
        .resolve_scale(x="independent")
    )


def calls(rows: list[JsonObject]) -> alt.LayerChart:
    of = estimates([row for row in rows if row["study"] == "calls"], ["arm", "pairs_per_seed"])
    base = alt.Chart(of).encode(
        x=alt.X("pairs_per_seed:Q", title="pairs called for a seed (M)"),
        color=alt.Color("arm:N", title=None, scale=alt.Scale(scheme="tableau10"), legend=alt.Legend(symbolOpacity=1)),
    )
    lines = base.mark_line(point=True).encode(y=alt.Y("figure:Q", scale=alt.Scale(zero=False), title="mean selected π"))
    return alt.layer(base.mark_area(opacity=0.2).encode(y="low:Q", y2="high:Q"), lines).properties(
        width=480, height=260
    )


def calls_for_the_same(rows: list[JsonObject]) -> str:
    """How many pairs a seed one way must call for the mean π that another reaches with M: between the M that were run by straight lines,
    with a bootstrap interval over runs, the same runs for all arms."""
    of = pd.DataFrame([row for row in rows if row["study"] == "calls"])
    table = of.pivot_table(index="run", columns=["arm", "pairs_per_seed"], values="selected")
    draws = np.random.default_rng(0).integers(len(table), size=(2000, len(table)))
    counts = sorted(of["pairs_per_seed"].unique())
    ways = (("thompson", "uniform"), ("thompson", "eq8 0.05"), ("eq8 0.05", "uniform"))
    lines = ["| M | " + " | ".join(f"{one} is worth, {arm}" for one, arm in ways) + " |", "|---|---|---|---|"]
    for count in counts[:-1]:
        cells = []
        for one, arm in ways:

            def needed(part: pd.DataFrame, one: str = one, arm: str = arm, count: int = count) -> float:
                return float(np.interp(part[one, count].mean(), [part[arm, n].mean() for n in counts], counts))

            low, high = np.quantile([needed(table.iloc[draw]) for draw in draws], (0.025, 0.975))
            cells.append(f"{needed(table):.1f} ({low:.1f} to {high:.1f})")
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    options = parser.parse_args()
    rows = [json.loads(line) for line in (options.out / "runs.jsonl").read_text("utf-8").splitlines()]
    print(calls_for_the_same(rows))
    sizes(rows).save(str(options.images / "evidence_size.svg"))
    calls(rows).save(str(options.images / "evidence_calls.svg"))


if __name__ == "__main__":
    main()
