"""The tables of what was measured of tuned models, off the numbers that tuned.py left: no model, no text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.study.names import UNTUNED
from star_pipeline.core.study.records import StudyLoss
from star_pipeline.core.study.statistics import (
    Interval,
    Matrix,
    Observation,
    compare,
    detectable,
    holm,
    matrix,
    student_t,
)
from star_pipeline_tests.benchmarks.evidence.page import table

STUDIES: Mapping[str, tuple[str, ...]] = {"selection": (), "parts": ("random", "judge"), "difficulty": ()}
"""And the arms of ``selection`` that each is told beside: of the same instructions, and trained in the same way."""
LEVEL = 0.05


def read(out: Path) -> tuple[list[JsonObject], dict[str, JsonObject]]:
    """(what serves what, what was measured by training)."""
    file = out / "jobs-train.json"
    if not file.exists():
        file = out / "jobs-all.json" if (out / "jobs-all.json").exists() else out / "jobs-early.json"
    kept = out / "trained.jsonl"
    told = [json.loads(line) for line in kept.read_text("utf-8").splitlines()] if kept.exists() else []
    found = {row["trained"]: row for row in told}
    for path in sorted((out / "trained").glob("*.json")):
        found[path.stem] = {"trained": path.stem, **json.loads(path.read_text("utf-8"))}
    kept.write_text("".join(f"{json.dumps(row)}\n" for row in found.values()), "utf-8")
    return json.loads(file.read_text("utf-8")), found


def tell(out: Path) -> None:
    jobs, found = read(out)
    (out / "tables.md").write_text("\n\n".join(tables(jobs, found)) + "\n", "utf-8")
    print((out / "tables.md").read_text("utf-8"))


def tables(jobs: Sequence[JsonMapping], found: Mapping[str, JsonMapping]) -> Iterator[str]:
    yield rates(jobs, found)
    for study, beside in STUDIES.items():
        of = [job for job in jobs if job["study"] == study]
        for target in dict.fromkeys(job["target"] for job in of):
            more = [
                job for job in jobs if job["study"] == "selection" and job["arm"] in beside and job["target"] == target
            ]
            wanted = [job for job in of if job["target"] == target] + more
            if mine := even(wanted, found):
                lacking = sorted({job["arm"] for job in wanted} - {job["arm"] for job in mine})
                left = f"; not trained with all of them, and left out: {', '.join(lacking)}" if lacking else ""
                yield f"**{study}, {target}**, {len({job['seed'] for job in mine})} training seeds{left}"
                seen = Seen(mine, jobs, found)
                yield arms_table(mine, found, seen)
                yield pairs_table(seen)
    if text := crossed([job for job in jobs if job["study"] == "difficulty"], found):
        yield text


def even(jobs: Sequence[JsonMapping], found: Mapping[str, JsonMapping]) -> list[JsonMapping]:
    """The arms that were trained with the same seeds: with so many of the first seeds as leave most trainings to compare."""
    seeds, arms = (list(dict.fromkeys(job[name] for job in jobs)) for name in ("seed", "arm"))
    there = {(job["arm"], job["seed"]) for job in jobs}
    there -= {(job["arm"], job["seed"]) for job in jobs if job["trained"] not in found}  # of whichever target
    ways = [
        ([arm for arm in arms if all((arm, seed) in there for seed in seeds[:n])], n) for n in range(1, len(seeds) + 1)
    ]
    those, count = max(ways, key=lambda way: (len(way[0]) * way[1], way[1]), default=([], 0))
    return [job for job in jobs if job["arm"] in those and job["seed"] in seeds[:count]]


def losses(job: JsonMapping, told: JsonMapping) -> list[StudyLoss]:
    return [
        StudyLoss(job["target"], job["arm"], job["seed"], question, part, part, nll, tokens, "ok")
        for question, part, nll, tokens in told["losses"]
    ]


def rates(jobs: Sequence[JsonMapping], found: Mapping[str, JsonMapping]) -> str:
    """Which learning rate was tried with what result."""
    lines: list[list[str]] = []
    before: dict[str, float] = {}
    for job in jobs:
        if job["study"] == "rates" and job["trained"] in found:
            values = {row[0]: row[2] for row in found[job["trained"]]["losses"] if row[2] is not None}
            if job["arm"] == UNTUNED:
                before = values
            apart = student_t(np.array([values[name] - before[name] for name in values if name in before]))
            own = "" if job["arm"] == UNTUNED else interval(apart.mean, apart.low, apart.high)
            figure = float(np.mean(list(values.values())))
            lines.append([job["target"], job["arm"], str(job["rate"] or ""), f"{len(values)}", f"{figure:.4f}", own])
    told = table("target | arm | learning rate | questions | held-out loss | from untuned", lines)
    if all(job["arm"] == UNTUNED for job in jobs if job["study"] == "rates"):
        return told  # one rate, which nothing here chose
    return told + (
        "\n\nThe rate with the lowest loss is every arm's: it was chosen on these same questions, by the arm random with one training seed."
    )


class Seen:
    """Losses by (question, training seed) of each arm, the untuned target's the same with every seed."""

    def __init__(
        self, mine: Sequence[JsonMapping], jobs: Sequence[JsonMapping], found: Mapping[str, JsonMapping]
    ) -> None:
        target, seeds = mine[0]["target"], sorted({job["seed"] for job in mine})
        before = [job for job in jobs if job["arm"] == UNTUNED and job["target"] == target and job["trained"] in found]
        every = [*({**job, "seed": seed} for job in before[:1] for seed in seeds), *mine]
        rows = [row for job in every for row in losses(job, found[job["trained"]]) if row.nll is not None]
        part_of = {row.question: row.source for row in rows}
        names = list(part_of)
        self.parts = np.array([part_of[name] for name in names])
        seen = [Observation(row.arm, row.seed, row.question, row.nll or 0.0) for row in rows]
        self.values = {arm: matrix(seen, arm, names, seeds) for arm in dict.fromkeys(job["arm"] for job in every)}


def arms_table(mine: Sequence[JsonMapping], found: Mapping[str, JsonMapping], seen: Seen) -> str:
    """What each arm was taught, and its loss with the interval over questions."""
    lines = []
    for arm, values in seen.values.items():
        of = [job for job in mine if job["arm"] == arm]
        facts = [found[job["trained"]] for job in of]
        loss = student_t(np.nanmean(values, axis=1))
        ends = "" if loss.low is None or loss.high is None else f" ({loss.low:.4f} to {loss.high:.4f})"
        lines.append([
            arm, f"{facts[0]['rows']:,}" if facts else "", f"{np.mean([f['taught_tokens'] for f in facts]):,.0f}" if facts else "",
            f"{np.mean([job['characters'] for job in of]):,.0f}" if facts else "", f"{loss.n}", f"{loss.mean:.4f}{ends}",
        ])  # fmt: skip  # a row
    return table("arm | rows | taught tokens | characters | questions | loss", lines)


def pairs_table(seen: Seen) -> str:
    """How much more loss each arm has than each other one: over questions, over training seeds, by part. *shown*: p below 0.05 after
    Holm's correction over all rows, and the interval over training seeds off 0 on the same side."""
    split = sorted(set(seen.parts))
    rows, ps = [], []
    for one, other in combinations(reversed(list(seen.values)), 2):
        apart = seen.values[one] - seen.values[other]
        told = compare(apart)
        if told is None:
            continue
        over = told.questions
        of = [compare(apart[seen.parts == part]) for part in split]
        rows.append(
            (one, other, told, [interval(c.questions.mean, c.questions.low, c.questions.high) if c else "" for c in of])
        )
        ps.append(over.p)
    lines = []
    for (one, other, told, by_part), p in zip(rows, holm(ps), strict=True):
        over, seeds = told.questions, told.seeds
        alike = seeds is None or seeds.low is None or seeds.high is None or not seeds.low <= 0 <= seeds.high
        shown = (
            "no"
            if p is None or p >= LEVEL
            else "yes"
            if alike and seeds
            else "for these models"
            if alike
            else "seeds disagree"
        )
        lines.append([
            f"{one} less {other}", interval(over.mean, over.low, over.high), ends(seeds), *by_part,
            f"{detectable(over.sd, over.n) or 0:.4f}", shown,
        ])  # fmt: skip  # a row
    return table(f"loss | difference | by training seed | {' | '.join(split)} | detectable | shown", lines)


def interval(figure: float | None, low: float | None, high: float | None) -> str:
    if figure is None:
        return ""
    ends = f" ({low:+.4f} to {high:+.4f})" if low is not None and high is not None else ""
    return f"{figure:+.4f}{ends}".replace("-", "−")


def crossed(jobs: Sequence[JsonMapping], found: Mapping[str, JsonMapping]) -> str:
    """Figure 2: how much more the small target loses by harder rows than the large one, question by question."""
    both = even(jobs, found)
    if {job["target"] for job in both} != {"small", "large"}:
        return ""
    seeds = sorted({job["seed"] for job in both})
    seen = {
        target: [
            Observation(row.arm, row.seed, row.question, row.nll)
            for job in both
            if job["target"] == target
            for row in losses(job, found[job["trained"]])
            if row.nll is not None
        ]
        for target in ("small", "large")
    }
    questions = sorted({one.question for one in seen["small"]})

    def of(target: str, arm: str) -> Matrix:
        return matrix(seen[target], arm, questions, seeds)

    lines = []
    for arm in dict.fromkeys(job["arm"] for job in both if job["arm"] != "low"):
        apart = {target: of(target, arm) - of(target, "low") for target in seen}
        for name, values in (*apart.items(), ("small less large", apart["small"] - apart["large"])):
            told = compare(values)
            if told is None:
                continue
            by_seed = told.seeds
            lines.append([
                f"{arm} less low", name, interval(told.questions.mean, told.questions.low, told.questions.high),
                ends(by_seed), f"{detectable(told.questions.sd, told.questions.n) or 0:.4f}",
            ])  # fmt: skip  # a row
    return table("held-out loss | target | difference | by training seed | detectable", lines) if lines else ""


def ends(found: Interval | None) -> str:
    if found is None or found.low is None or found.high is None:
        return ""
    return f"{found.low:+.4f} to {found.high:+.4f}".replace("-", "−")
