"""The tables of the evidence page, from what the study left in its folder: differences run by run, with intervals over runs.

python -m star_pipeline_tests.benchmarks.evidence.page --out FOLDER
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.intervals import Estimate, mean
from star_pipeline_tests.benchmarks.two_means import independent

ARMS = (
    "uniform",
    "eq8 0.001",
    "eq8 0.01",
    "eq8 0.05",
    "eq8 0.1",
    "eq8 40/seeds",
    "gaussian",
    "ucb",
    "thompson, draws as coins",
    "thompson",
)


class Runs:
    """What was measured, by study, arm, M and seeds, in shards of ``shard`` seeds."""

    def __init__(self, rows: Iterable[JsonObject], shard: int = 64) -> None:
        self._rows: dict[tuple[str, str, int, int], dict[int, JsonObject]] = {}
        for row in rows:
            key = row["study"], row["arm"], row["pairs_per_seed"], row["seeds"]
            if row.get("shard", 64) == shard:
                self._rows.setdefault(key, {})[row["run"]] = row

    def of(
        self, study: str, arm: str, pairs: int, seeds: int, what: str = "selected", times: float = 1.0
    ) -> Estimate | None:
        return mean([times * row[what] for row in self._rows.get((study, arm, pairs, seeds), {}).values()])

    def apart(self, study: str, arm: str, beside: str, pairs: int, seeds: int) -> Estimate | None:
        """How much more the arm has than another, run by run."""
        one, other = (self._rows.get((study, name, pairs, seeds), {}) for name in (arm, beside))
        return mean([one[run]["selected"] - other[run]["selected"] for run in sorted(one.keys() & other.keys())])

    def selected(self, study: str, arm: str, pairs: int, seeds: int, what: str = "selected") -> list[float]:
        """Of each run."""
        return [row[what] for row in self._rows.get((study, arm, pairs, seeds), {}).values()]

    def best_found(self, study: str, arm: str, pairs: int, seeds: int) -> str:
        """In how many runs the most probable pair at the end is one of the best fixed set's, found with hindsight."""
        rows = self._rows.get((study, arm, pairs, seeds), {}).values()
        return f"{sum(row['top'] in row['oracle_pairs'] for row in rows)} of {len(rows)}"


def shown(found: Estimate | None, sign: str = "", digits: int = 4) -> str:
    form = f"{sign}.{digits}f"
    return f"{found.figure:{form}} ({found.low:{form}} to {found.high:{form}})".replace("-", "−") if found else ""


def table(head: str, lines: Iterable[list[str]]) -> str:
    columns = head.count("|") + 1
    return "\n".join([f"| {head} |", "|" + "---|" * columns, *(f"| {' | '.join(line)} |" for line in lines)])


def tables(runs: Runs) -> dict[str, str]:
    small, large = 779, 16_000
    settings = [(m, n) for n in (small, large) for m in (2, 3, 5)]
    found = {}
    for n in (small, large):
        found[f"SIZE{n}"] = table(
            f"{n:,} seeds | M = 2 | M = 3 | M = 5",
            [
                [arm, *(shown(runs.apart("size", arm, "thompson", m, n), "+") for m in (2, 3, 5))]
                for arm in ARMS
                if arm != "thompson" and runs.of("size", arm, 3, n)
            ]
            + [["**thompson: its own**", *(shown(runs.of("size", "thompson", m, n), digits=3) for m in (2, 3, 5))]],
        )
    found["FIRST"] = table(
        "best pair first, in runs | " + " | ".join(f"M = {m}, {n:,}" for m, n in settings),
        [
            [arm, *(runs.best_found("size", arm, m, n) for m, n in settings)]
            for arm in ("eq8 0.001", "eq8 0.05", "eq8 0.1", "thompson")
        ],
    )
    found["GAIN"] = "\n".join(
        f"M = 3, {n:,} seeds, over equal chances: {arm} {shown(runs.apart('size', arm, 'uniform', 3, n), '+', 3)}"
        for n in (small, large)
        for arm in ("eq8 0.001", "eq8 0.05", "thompson")
    )
    found["BASE"] = "\n".join(
        f"{base}: {arm} {shown(runs.apart(f'base {base}', arm, 'thompson', 3, small), '+')}"
        for base in ("vicuna-7b-v1.5", "phi-2")
        for arm in ("eq8 0.001", "eq8 0.05", "ucb")
    )
    costs = [f"{arm}, {weight} per USD" for arm in ("thompson", "eq8 0.05") for weight in (0, 100, 1000)]
    found["COST"] = table(
        "arm | mean selected π | from thompson without a weight | USD a 1,000 seeds",
        [
            [arm, shown(runs.of("cost", arm, 2, small), digits=3), shown(runs.apart("cost", arm, "thompson, 0 per USD", 2, small), "+"),
             shown(runs.of("cost", arm, 2, small, "usd", 1000), digits=3)]
            for arm in costs
        ],
    )  # fmt: skip
    found["MEMORY"] = table(
        "memory beside none | M = 2, 1 from memory | M = 3, 1 | M = 5, 2",
        [
            [
                f"{arm}, {way}",
                *(
                    shown(runs.apart("memory", f"{arm}, memory {way}", f"{arm}, no memory", m, 533), "+")
                    for m in (2, 3, 5)
                ),
            ]
            for arm in ("uniform", "eq8 0.05", "thompson")
            for way in ("similarity", "probability")
        ],
    )
    found["GAPS"] = table(
        "arm | mean selected π | from thompson",
        [
            [
                arm,
                shown(runs.of("gaps", arm, 3, small)),
                "" if arm == "thompson" else shown(runs.apart("gaps", arm, "thompson", 3, small), "+"),
            ]
            for arm in ARMS
            if runs.of("gaps", arm, 3, small)
        ],
    )
    found["DOMAINS"] = "\n".join(
        f"{n} domains: {shown(runs.apart('domains', f'thompson, {n} domains', 'thompson', 3, small), '+')}"
        for n in (3, 8)
    )
    return found


def lag_table(rows: Iterable[JsonObject]) -> str:
    """What a lag costs, by the number of shards. *Expected*: lag / shards times what lag 0 has more than equal chances in the last quarter
    of the seeds."""
    kept, lines = list(rows), []
    for seeds, shard in ((779, 64), (779, 32), (779, 16), (3_200, 64), (16_000, 64)):
        runs, shards = Runs(kept, shard), -(-seeds // shard)
        for arm in ("eq8 0.05", "thompson"):
            beside = f"{arm}, lag 0"
            late, blind = (runs.of("lag", name, 3, seeds, "last_quarter") for name in (beside, "uniform"))
            for lag in (2, 8):
                name = f"{arm}, lag {lag}"
                if not (late and blind and runs.of("lag", name, 3, seeds)):
                    continue
                apart = runs.apart("lag", name, beside, 3, seeds)
                alone = independent(runs.selected("lag", name, 3, seeds), runs.selected("lag", beside, 3, seeds))
                expected = f"{-lag / shards * (late.figure - blind.figure):+.4f}".replace("-", "−")
                small = runs.apart("lag", f"{name}, small shards first", beside, 3, seeds)
                line = [f"{seeds:,} / {shard} = {shards}", name, shown(apart, "+"), shown(alone, "+"), expected]
                lines.append([*line, shown(small, "+")])
    head = "seeds / shard size = shards | arm | from lag 0, run by run | as of independent runs | expected | small shards first"
    return table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lines = (options.out / "runs.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}}")]
    for name, text in {**tables(Runs(rows)), "LAG": lag_table(rows)}.items():
        print(f"\n{name}\n\n{text}")


if __name__ == "__main__":
    main()
