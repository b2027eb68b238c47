"""The report's section on a study of the lake: words first, then plots and tables; and the fact of it among the first ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from star_pipeline.core.study.conclusion import ArmCost, Conclusion, conclude
from star_pipeline.core.study.records import StudyResult
from star_pipeline.core.study.tables import STUDY_RESULTS
from star_pipeline.figures import Figure, study
from star_pipeline.figures.base import Row
from star_pipeline.report.facts import Fact
from star_pipeline.report.read import Inspection

TITLE = "Does the data make a better model?"
_TOY = " The offline profile's models are toys of a few thousand words: what they show says nothing about real ones."


@dataclass(frozen=True)
class StudySection:
    """``opening`` is one paragraph; ``fact`` answers in a line which arm is best, whether that is sure, and at what cost."""

    opening: str
    figures: tuple[Figure, ...]
    fact: Fact


def study_section(ask: Inspection) -> StudySection | None:
    """None where the lake has no study."""
    costs = ask.view("study_cost")
    if not costs:
        return None
    stale = [row["because"] for row in ask.view("out_of_date") if row["asset"] == STUDY_RESULTS.name]
    summary, categories = ask.view("study_summary"), ask.view("study_categories")
    found = [StudyResult(**row) for row in ask.view("study_results")]
    arms = [row["arm"] for row in costs]
    told = conclude(found, [ArmCost(row["arm"], row["tokens"], row["rows_usd"], row["judged_usd"]) for row in costs])
    caveat = _TOY if any(row.target.startswith("offline/") for row in found) else ""
    return StudySection(
        _dated(told.words, stale) + caveat,
        (*_plots(summary, categories, arms), study.costs(costs)),
        _fact(told, stale, caveat),
    )


def _dated(words: str, stale: Sequence[str]) -> str:
    """What was found, under the reservation that it is out of date."""
    if not stale:
        return words
    return f"Out of date: these results are {stale[0]}; measure those with star-pipeline study. Of the former ones: {words}"


def _plots(summary: Sequence[Row], categories: Sequence[Row], arms: Sequence[str]) -> tuple[Figure, ...]:
    if not summary:
        return ()
    return (
        *study.effects(summary, arms),
        *study.scaling(summary, arms),
        *study.radars(categories, arms),
        study.results(summary),
    )


def _fact(told: Conclusion, stale: Sequence[str], caveat: str) -> Fact:
    best = f"out of date: {told.best}" if stale else told.best
    return Fact(TITLE, best, _dated(told.brief, stale) + caveat, wide=True)
