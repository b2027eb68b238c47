"""From what was measured to ``study_results``: a row an arm and measure, with its difference, how sure it is, and the same in words."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from star_pipeline.core.study.names import UNTUNED
from star_pipeline.core.study.records import (
    Better,
    Shown,
    StudyGrade,
    StudyLoss,
    StudyResult,
    StudyTask,
    StudyWin,
)
from star_pipeline.core.study.statistics import (
    LEVEL,
    Comparison,
    Interval,
    Observation,
    compare,
    detectable,
    holm,
    matrix,
    questions_needed,
    student_t,
)
from star_pipeline.core.study.wins import length_controlled

ALL = "all"
EVEN = 0.5


@dataclass(frozen=True, slots=True)
class Measure:
    """``name`` as in the table, ``words`` as in a sentence; ``better``: which way is good."""

    name: str
    words: str
    better: Better


HELD_OUT = Measure("held_out_loss", "held-out loss", "lower")
WIN_RATE = Measure("win_rate", "win rate", "higher")
CONTROLLED = Measure("length_controlled_win_rate", "length-controlled win rate", "higher")
GRADE = Measure("grade", "grade", "higher")
_LOWER = ("perplexity", "loss", "bits_per_byte", "brier", "ter")
"""Metrics of tasks of which less is better, by a part of their names."""


def study_results(
    arms: Sequence[str],
    baseline: str,
    losses: Sequence[StudyLoss] = (),
    wins: Sequence[StudyWin] = (),
    grades: Sequence[StudyGrade] = (),
    tasks: Sequence[StudyTask] = (),
) -> list[StudyResult]:
    """All results, by target, measure and part; within them the arms in their order, then the untuned target where it was measured.
    ``baseline`` is what differences are from; wins are against the arm that they name."""
    found: list[StudyResult] = []
    for target in dict.fromkeys(row.target for table in (losses, wins, grades, tasks) for row in table):
        loss_parts = _by_part(
            (row.source, row.arm, row.seed, row.question, row.nll) for row in losses if row.target == target
        )
        grade_parts = _by_part(_graded(row for row in grades if row.target == target))
        for measure, parts in ((HELD_OUT, loss_parts), (GRADE, grade_parts)):
            for part, seen in parts.items():
                found += compared(target, measure, part, seen, arms, baseline)
        found += _wins(target, arms, [row for row in wins if row.target == target])
        values: dict[tuple[str, str], list[Observation]] = defaultdict(list)
        for row in tasks:
            if row.target == target:
                values[row.task, row.metric].append(Observation(row.arm, row.seed, row.question, row.value))
        for (task, metric), seen in values.items():
            better: Better = "lower" if any(word in metric for word in _LOWER) else "higher"
            found += compared(target, Measure(metric, metric, better), task, seen, arms, baseline)
    return found


_Valued = tuple[str | None, str, int, str, float | None]
"""(part, arm, seed, question, value)"""


def _by_part(rows: Iterable[_Valued]) -> dict[str, list[Observation]]:
    """``all``, and where there are several parts each of them."""
    whole: list[Observation] = []
    parts: dict[str, list[Observation]] = defaultdict(list)
    for part, arm, seed, question, value in rows:
        if value is not None:
            seen = Observation(arm, seed, question, value)
            whole.append(seen)
            if part is not None:
                parts[part].append(seen)
    return ({ALL: whole} if whole else {}) | (dict(parts) if len(parts) > 1 else {})


def _graded(rows: Iterable[StudyGrade]) -> Iterator[_Valued]:
    """A question's grade is the mean over its turns; none where a turn has none."""
    turns: dict[tuple[str | None, str, int, str], list[float | None]] = defaultdict(list)
    for row in rows:
        turns[row.category, row.arm, row.seed, row.question].append(row.grade)
    for key, grades in turns.items():
        given = [grade for grade in grades if grade is not None]
        yield *key, sum(given) / len(given) if len(given) == len(grades) else None


def _wins(target: str, arms: Sequence[str], rows: Sequence[StudyWin]) -> Iterator[StudyResult]:
    for baseline in dict.fromkeys(row.baseline for row in rows):
        against = [row for row in rows if row.baseline == baseline]
        parts = _by_part((row.category, row.arm, row.seed, row.question, row.win) for row in against)
        for part, seen in parts.items():
            even = [Observation(baseline, seed, name, EVEN) for seed, name in {(o.seed, o.question) for o in seen}]
            yield from compared(target, WIN_RATE, part, [*seen, *even], arms, baseline)
        yield from _controlled(target, arms, baseline, against)


def _controlled(target: str, arms: Sequence[str], baseline: str, rows: Sequence[StudyWin]) -> list[StudyResult]:
    found = []
    for arm in (*arms, UNTUNED):
        judged = [row for row in rows if row.arm == arm and row.win is not None]
        rate = length_controlled(
            [row.win or 0.0 for row in judged],
            [row.length for row in judged],
            [row.length_baseline for row in judged],
            [row.question for row in judged],
        )
        if rate is None:
            continue
        less = {end: None if (value := getattr(rate, end)) is None else value - EVEN for end in _ENDS}
        found.append(
            StudyResult(
                target, CONTROLLED.name, ALL, arm, baseline, CONTROLLED.better, rate.rate, rate.low, rate.high,
                rate.rate - EVEN, less["low"], less["high"], less["boot_low"], less["boot_high"], rate.p, None, rate.n,
                len({row.question for row in rows if row.arm == arm}) - rate.n, len({row.seed for row in judged}),
                None, None, None, None, None, "",
            )
        )  # fmt: skip  # a field's value each
    return _told(found, CONTROLLED)


_ENDS = ("low", "high", "boot_low", "boot_high")


def compared(
    target: str, measure: Measure, part: str, seen: Sequence[Observation], arms: Sequence[str], baseline: str
) -> list[StudyResult]:
    """One measure of one part: the baseline's row, and a row of each other arm that has values, with Holm's correction over them.

    The untuned target's values are of no training: each training seed's models are compared with the same. Whether it is better than the
    baseline is another question than which arm is, so that its p is corrected for none of them, and theirs not for it. Of wins it has
    those against one training seed's baseline.
    """
    questions = list(dict.fromkeys(o.question for o in seen))
    seeds = sorted({o.seed for o in seen})
    values = {arm: matrix(seen, arm, questions, seeds) for arm in dict.fromkeys((baseline, *arms, UNTUNED))}
    alike = np.tile(np.nanmax(values[UNTUNED], axis=1, initial=-np.inf)[:, None], len(seeds))
    before = np.where(np.isfinite(alike), alike, np.nan)  # its one value of each question
    if measure != WIN_RATE:
        values[UNTUNED] = before
    found = []
    for arm, own in values.items():
        if np.isnan(own).all():
            continue
        there = ~np.isnan(own)
        by_question = np.where(there, own, 0).sum(axis=1)[there.any(axis=1)] / there.sum(axis=1)[there.any(axis=1)]
        itself = arm == baseline
        difference = None if itself else compare(own - values[baseline])
        of = len(questions), int(there.any(axis=0).sum())
        row = _result(target, measure, part, arm, baseline, student_t(by_question), difference, of)
        found.append(row if arm == UNTUNED else _tuned(row, compare(own - before)))
    return _told(found, measure)


def _result(
    target: str,
    measure: Measure,
    part: str,
    arm: str,
    baseline: str,
    own: Interval,
    difference: Comparison | None,
    shape: tuple[int, ...],
) -> StudyResult:
    """``shape``: how many questions and training seeds there are."""
    result = StudyResult(
        target, measure.name, part, arm, baseline, measure.better, own.mean, own.low, own.high,
        None, None, None, None, None, None, None, own.n, shape[0] - own.n, shape[1], None, None, None, None, None, "",
    )  # fmt: skip  # a field's value each
    if difference is None:
        return result
    over, seeds = difference.questions, difference.seeds
    return replace(
        result,
        difference=over.mean,
        low=over.low,
        high=over.high,
        boot_low=difference.boot_low,
        boot_high=difference.boot_high,
        p=over.p,
        n=over.n,
        missing=difference.missing,
        seeds_low=seeds.low if seeds else None,
        seeds_high=seeds.high if seeds else None,
        needed=questions_needed(over.mean, over.sd) if over.n > 1 else None,
        detectable=detectable(over.sd, over.n),
    )


def _tuned(row: StudyResult, difference: Comparison | None) -> StudyResult:
    """With the difference from the untuned target, whose p is still to be corrected."""
    if difference is None:
        return row
    over, seeds = difference.questions, difference.seeds
    shown = _shown(over.mean, over.p, (seeds.low, seeds.high) if seeds else (None, None), row.better)
    return replace(
        row, tuning=over.mean, tuning_low=over.low, tuning_high=over.high, tuning_p_holm=over.p, tuning_shown=shown
    )


def _told(rows: Sequence[StudyResult], measure: Measure) -> list[StudyResult]:
    """With Holm's correction over these arms, and what it comes to."""
    arms = [row for row in rows if row.arm != UNTUNED]
    corrected = [*holm([row.p for row in arms]), *(row.p for row in rows if row.arm == UNTUNED)]
    tuning = [*holm([row.tuning_p_holm for row in arms]), *[None] * (len(rows) - len(arms))]
    told = []
    for row, p, tuning_p in zip(rows, corrected, tuning, strict=True):
        row = replace(row, p_holm=p, tuning_p_holm=tuning_p)
        # beyond the correction nothing is shown
        kept = row.tuning_shown if tuning_p is not None and tuning_p < LEVEL else _NOT
        row = replace(
            row,
            shown=None
            if row.difference is None
            else _shown(row.difference, p, (row.seeds_low, row.seeds_high), row.better),
            tuning_shown=None if row.tuning is None else kept,
        )
        told.append(replace(row, words=_words(row, measure)))
    return told


_NOT: Shown = "no difference shown"


def _shown(difference: float, p: float | None, seeds: tuple[float | None, float | None], better: Better) -> Shown:
    """``seeds``: the ends of the interval over training seeds."""
    if p is None or p >= LEVEL or difference == 0:
        return _NOT
    low, high = seeds
    if low is not None and high is not None and low <= 0 <= high:
        return "seeds disagree"
    return "better" if (difference < 0) == (better == "lower") else "worse"


def _words(row: StudyResult, measure: Measure) -> str:
    if row.tuning is None:
        return _beside_the_baseline(row, measure)
    way = "higher" if row.tuning > 0 else "lower"
    away = f"{abs(row.tuning):.3g} {way} than" if row.tuning else "as"
    between = "" if row.tuning_low is None else f" (95%: {row.tuning_low:.3g} to {row.tuning_high:.3g})"
    said = f"{row.tuning_shown}{_though(row.tuning_low, row.tuning_high, row.tuning_p_holm, row.tuning_shown)}"
    return f"{_beside_the_baseline(row, measure)} It is {away} without tuning{between}: {said}."


def _beside_the_baseline(row: StudyResult, measure: Measure) -> str:
    where = "" if row.part == ALL else f" on {row.part}"
    head = f"{row.arm}: {measure.words}{where} {row.figure:.4g}"
    if row.difference is None:
        return f"{head}, which the others are compared with ({_count(row.n, 'question')}, {_count(row.seeds, 'training seed')})."
    way = "higher" if row.difference > 0 else "lower"
    away = f"{abs(row.difference):.3g} {way} than {row.baseline}" if row.difference else f"as {row.baseline}"
    between = "" if row.low is None else f" (95% interval of the difference {row.low:.3g} to {row.high:.3g})"
    said = f"{head}, {away}{between}, {_count(row.n, 'question')}, {_count(row.seeds, 'training seed')}"
    if row.shown == "seeds disagree":
        return (
            f"{said}. The questions show it for these models, but by training seed the difference is anywhere from "
            f"{row.seeds_low:.3g} to {row.seeds_high:.3g}: tuned again, it may turn; more training seeds tell."
        )
    once = " With one training seed, what tuning again would give is not known." if row.seeds == 1 else ""
    if row.shown in ("better", "worse"):
        return f"{said}: {row.shown}, p {_p(row.p_holm)} after Holm's correction.{once}"
    reach = "" if row.detectable is None else f" So many questions show differences from {row.detectable:.2g} on"
    more = f"; one as seen here needs some {row.needed:,}." if reach and row.needed else "." if reach else ""
    return f"{said}: {_NOT}{_though(row.low, row.high, row.p_holm, _NOT)}.{reach}{more}"


def _though(low: float | None, high: float | None, p: float | None, shown: Shown | None) -> str:
    """Why an interval off 0, which is of one comparison alone, shows nothing among several."""
    off = low is not None and high is not None and not low <= 0 <= high
    return f", p {_p(p)} after Holm's correction" if off and p is not None and shown == _NOT else ""


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _p(p: float | None) -> str:
    return "below 0.001" if p is not None and p < 0.001 else f"{p:.3f}"
