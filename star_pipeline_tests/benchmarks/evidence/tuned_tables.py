"""The tables of what was measured of tuned models, off the numbers that tuned.py left: no model, no text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.study.names import UNTUNED
from star_pipeline.core.study.records import StudyLoss
from star_pipeline.core.study.results import ALL, study_results
from star_pipeline.core.study.statistics import Interval, Matrix, Observation, compare, detectable, matrix
from star_pipeline_tests.benchmarks.evidence.page import table

BASELINES = {"selection": "seeds", "parts": "whole", "difficulty": "low"}
BESIDE = {"selection": ("random", "judge"), "parts": (), "difficulty": ("middle",)}
"""Other arms that differences are told from."""


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
    for study, baseline in BASELINES.items():
        of = [job for job in jobs if job["study"] == study]
        for target in dict.fromkeys(job["target"] for job in of):
            mine = even([job for job in of if job["target"] == target], found)
            if mine:
                yield f"**{study}, {target}**, {len({job['seed'] for job in mine})} training seeds"
                for base in (name for name in (baseline, *BESIDE[study]) if any(job["arm"] == name for job in mine)):
                    yield arms_table(mine, jobs, found, base)
    if text := crossed([job for job in jobs if job["study"] == "difficulty"], found):
        yield text


def even(jobs: Sequence[JsonMapping], found: Mapping[str, JsonMapping]) -> list[JsonMapping]:
    """Those of the training seeds with which every arm was trained."""
    lacking = {job["seed"] for job in jobs if job["trained"] not in found}
    return [job for job in jobs if job["seed"] not in lacking]


def losses(job: JsonMapping, told: JsonMapping) -> list[StudyLoss]:
    return [
        StudyLoss(job["target"], job["arm"], job["seed"], question, part, part, nll, tokens, "ok")
        for question, part, nll, tokens in told["losses"]
    ]


def rates(jobs: Sequence[JsonMapping], found: Mapping[str, JsonMapping]) -> str:
    """Which learning rate was tried with what result."""
    lines = []
    for job in jobs:
        if job["study"] == "rates" and job["trained"] in found:
            values = [row[2] for row in found[job["trained"]]["losses"] if row[2] is not None]
            lines.append([job["target"], job["arm"], str(job["rate"] or ""), f"{np.mean(values):.4f}"])
    return table("target | arm | learning rate | held-out loss", lines)


def arms_table(
    mine: Sequence[JsonMapping], jobs: Sequence[JsonMapping], found: Mapping[str, JsonMapping], baseline: str
) -> str:
    """Each arm's loss, and how much more it is than the baseline's: over questions, over training seeds, and by part."""
    target = mine[0]["target"]
    rows = [row for job in mine for row in losses(job, found[job["trained"]])]
    for job in jobs:
        if job["arm"] == UNTUNED and job["target"] == target and job["trained"] in found:
            for seed in {other["seed"] for other in mine}:
                rows += losses({**job, "seed": seed}, found[job["trained"]])
    arms = list(dict.fromkeys(job["arm"] for job in mine))
    results = study_results(arms, baseline, rows)
    by = {(row.arm, row.part): row for row in results}
    split = sorted({row.part for row in results} - {ALL})
    lines = []
    for arm in [*arms, *([UNTUNED] if (UNTUNED, ALL) in by else [])]:
        of = by[arm, ALL]
        facts = [found[job["trained"]] for job in mine if job["arm"] == arm]
        lines.append([
            arm, f"{facts[0]['rows']:,}" if facts else "", f"{np.mean([f['taught_tokens'] for f in facts]):,.0f}" if facts else "",
            f"{of.n}", f"{of.figure:.4f}", interval(of.difference, of.low, of.high),
            "" if of.seeds_low is None or of.seeds_high is None else f"{of.seeds_low:+.4f} to {of.seeds_high:+.4f}".replace("-", "−"),
            *(interval(by[arm, part].difference, by[arm, part].low, by[arm, part].high) for part in split),
            "" if of.detectable is None else f"{of.detectable:.4f}", of.shown or "",
        ])  # fmt: skip  # a row
    head = (
        f"arm | rows | taught tokens | questions | loss | from {baseline} | by training seed | {' | '.join(split)} | "
        "detectable | shown"
    )
    return table(head, lines)


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
    for arm in ("middle", "high"):
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
    return table("held-out loss | target | difference | by training seed | detectable", lines)


def ends(found: Interval | None) -> str:
    if found is None or found.low is None or found.high is None:
        return ""
    return f"{found.low:+.4f} to {found.high:+.4f}".replace("-", "−")
