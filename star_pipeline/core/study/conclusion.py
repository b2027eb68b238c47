"""What a study comes to: which arm is best, whether that is sure, and at what cost. Words, out of ``study_results`` and the arms' costs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from star_pipeline.core.study.names import UNTUNED
from star_pipeline.core.study.records import StudyResult
from star_pipeline.core.study.results import ALL, CONTROLLED, GRADE, HELD_OUT, WIN_RATE

MEASURES = (HELD_OUT, WIN_RATE, CONTROLLED, GRADE)
"""The study's own, the first that is there being looked at first; tasks' metrics come after them."""
WORDS = {measure.name: measure.words for measure in MEASURES}
NONE, DISAGREE = "no difference shown", "the measures disagree"


@dataclass(frozen=True)
class ArmCost:
    """``rows_usd``: what was paid for the candidates that the arm's rule chooses from, verdicts too where it looks at them; None: of
    another lake. ``judged_usd``: what the study paid to judge and grade its models' answers. ``tokens``: of an epoch."""

    arm: str
    tokens: int
    rows_usd: float | None
    judged_usd: float


@dataclass(frozen=True)
class Conclusion:
    """``best`` in a few words: an arm, or that none is shown to be; ``sure``: how sure that is, ``cost``: at what cost, in sentences;
    ``brief``: both in a line. ``ahead``: the arms that are best of a target, without those that others were compared with."""

    best: str
    sure: str
    cost: str
    brief: str
    ahead: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return " ".join(filter(None, (f"{self.best[:1].upper()}{self.best[1:]}.", self.sure, self.cost)))


def whole(results: Iterable[StudyResult]) -> list[StudyResult]:
    """Without categories and files of questions: what is said of all questions of a measure, and of each task."""
    return [row for row in results if row.part == ALL or row.measure not in WORDS]


def conclude(results: Sequence[StudyResult], costs: Sequence[ArmCost]) -> Conclusion:
    """Of all targets and measures. An arm is best where a difference is shown and no measure says otherwise."""
    told = sorted(whole(results), key=lambda row: _place(row.measure))  # stable: the arms stay in their order
    told = [row for row in told if row.arm != UNTUNED]  # what each arm is beside it, the arms' own rows say
    if not told:
        said = "The training sets are made; no model tuned on them was measured."
        return Conclusion("nothing measured yet", said, "", said)
    targets = list(dict.fromkeys(row.target for row in told))
    each = {target: _best(rows) for target in targets if (rows := [row for row in told if row.target == target])}
    bests = {best for best, _ in each.values()}
    several = len(targets) > 1
    all_of_them = "both targets" if len(targets) == 2 else f"all {len(targets)} targets"
    if len(bests) == 1:
        (best,) = bests
        head = (
            (f"{best} is best" + (f" for {all_of_them}" if several else ""))
            if _is_arm(best)
            else f"{best}{f' for any of {len(targets)} targets' if several else ''}"
        )
    else:
        head = "; ".join(f"{target}: {best}" for target, (best, _) in each.items())
    idle = {target: said for target, (best, _) in each.items() if (said := _idle(told, target, best))}
    if len(set(idle.values())) == 1 and len(idle) == len(targets):
        head += f", and {next(iter(idle.values()))}"
    elif idle:
        head += "".join(f", and {said} for {target}" for target, said in idle.items())
    sure = " ".join((f"{target}: " if several else "") + said for target, (_, said) in each.items())
    arms = {best for best in bests if _is_arm(best)}
    brief = "; ".join(
        (f"{target}: " if several else "") + _brief(told, target, best) for target, (best, _) in each.items()
    )
    price = _cost(arms, costs, next(row.baseline for row in told))
    ahead = sorted(arms - {row.baseline for row in told})
    return Conclusion(head, sure, price, f"{brief}. {price}", tuple(ahead))


def _idle(rows: Sequence[StudyResult], target: str, best: str) -> str:
    """Where tuning on what is best is not shown to be better than none, by the first measure that tells; "" where it is."""
    own = [row for row in rows if row.target == target and row.tuning_shown is not None]
    first = [row for row in own if (row.measure, row.part) == (own[0].measure, own[0].part)]
    looked_at = [row for row in first if row.arm == best or not _is_arm(best)]
    if not looked_at or any(row.tuning_shown == "better" for row in looked_at):
        return ""
    worse = all(row.tuning_shown == "worse" for row in looked_at)
    return "worse than no tuning" if worse else "not shown to be better than no tuning"


def _brief(rows: Sequence[StudyResult], target: str, best: str) -> str:
    """The arm's difference in the first measure that shows it; where no arm is best, that of the arm that comes nearest."""
    own = [row for row in rows if row.target == target and row.difference is not None]
    if not own:
        return "one arm alone"
    named = [row for row in own if row.arm == best and row.shown == "better"]
    measured = [row for row in own if (row.measure, row.part) == (own[0].measure, own[0].part)]
    row = named[0] if named else min(measured, key=lambda row: 1.0 if row.p is None else row.p)
    between = "" if row.low is None else f" (95%: {row.low:+.3g} to {row.high:+.3g})"
    measure = WORDS.get(row.measure, f"{row.part} {row.measure}")
    told = f"{row.arm}'s {measure} {row.difference:+.3g} from {row.baseline}{between}, {row.n:,} questions"
    of = len({(each.measure, each.part) for each in own})
    count = sum(each.arm == best and each.shown == "better" for each in own)
    return f"{told}, shown by {count} of {of} measures" if named and of > 1 else told


def _place(measure: str) -> int:
    return list(WORDS).index(measure) if measure in WORDS else len(WORDS)


def _is_arm(best: str) -> bool:
    return best not in (NONE, DISAGREE)


def _best(rows: Sequence[StudyResult]) -> tuple[str, str]:
    """Of one target: the arm that is best, or what stands in its place, and how sure that is."""
    by_measure: dict[tuple[str, str], list[StudyResult]] = {}
    for row in rows:
        by_measure.setdefault((row.measure, row.part), []).append(row)
    leaders = {key: leader for key, of in by_measure.items() if (leader := _leader(of)) is not None}
    names = {leader.arm for leader in leaders.values()}
    worse = {row.arm for row in rows if row.shown == "worse"}
    if not names:
        return NONE, _undecided(rows)
    if len(names) > 1 or names & worse:
        first = [*leaders.values()][:3]
        against = [row for row in rows if row.shown == "worse" and row.arm in names][:1]
        return DISAGREE, _sentences([*first, *against])
    (name,) = names
    key, leader = next(iter(leaders.items()))
    of = len(by_measure)
    if key != next(iter(by_measure)) and 2 * len(leaders) < of:  # of many measures one shows a difference by chance
        return NONE, f"{_undecided(rows)} Only {len(leaders)} of {of} measures says otherwise: {leader.words}"
    shown = f" Shown by {len(leaders)} of {of} measures." if of > 1 else ""
    own = (
        leader.words
        if leader.difference is not None
        else _sentences([r for r in by_measure[key] if r.shown == "worse"][:2])
    )
    return name, f"{own}{shown}{_rivals(leader, by_measure[key])}"


def _leader(rows: Sequence[StudyResult]) -> StudyResult | None:
    """The arm that is shown to be furthest ahead of the baseline; the baseline itself where all others are shown to be worse."""
    ahead = [row for row in rows if row.shown == "better"]
    if ahead:
        return max(ahead, key=lambda row: abs(row.difference or 0.0))
    others = [row for row in rows if row.difference is not None]
    if others and all(row.shown == "worse" for row in others):
        return next((row for row in rows if row.difference is None), None)
    return None


def _rivals(leader: StudyResult, rows: Sequence[StudyResult]) -> str:
    """The other arms whose interval reaches into the leader's: which of them is better is not compared."""
    if leader.difference is None or leader.low is None or leader.high is None:
        return ""
    near = [
        row.arm
        for row in rows
        if row.arm != leader.arm and row.low is not None and row.high is not None
        and row.low <= leader.high and row.high >= leader.low
    ]  # fmt: skip  # one condition
    if not near:
        return ""
    those = "that one" if len(near) == 1 else "those"
    return (
        f" Its interval overlaps with that of {' and '.join(near)}, so that it is not shown to be better than {those}."
    )


def _undecided(rows: Sequence[StudyResult]) -> str:
    """The arm that comes nearest to a difference in the first measure, in its words; others by name."""
    first = [
        row for row in rows if (row.measure, row.part) == (rows[0].measure, rows[0].part) and row.difference is not None
    ]
    if not first:
        return "There is one arm alone, and nothing to compare it with."
    nearest = min(first, key=lambda row: 1.0 if row.p is None else row.p)
    others = [row for row in rows if row.shown in ("worse", "seeds disagree") and row is not nearest][:2]
    return _sentences([nearest, *others])


def _sentences(rows: Sequence[StudyResult]) -> str:
    return " ".join(row.words for row in rows)


def _cost(arms: Iterable[str], costs: Sequence[ArmCost], baseline: str) -> str:
    """What the best arms' rows cost, how many tokens they are beside the baseline's, and what judging cost in all."""
    known = {cost.arm: cost for cost in costs}
    said = []
    for arm in sorted(set(arms) & set(known)):
        cost, base = known[arm], known.get(baseline)
        paid = (
            "what its rows cost is in another lake"
            if cost.rows_usd is None
            else f"its rows cost {_usd(cost.rows_usd)} in LLM calls"
        )
        beside = (
            f", {cost.tokens / base.tokens - 1:+.0%} beside {baseline}"
            if base and base.tokens and base.arm != arm
            else ""
        )
        said.append(f"{arm}: {paid}, and an epoch trains on {cost.tokens:,} response tokens{beside}.")
    judged = sum(cost.judged_usd for cost in costs)
    paid_rows = max((cost.rows_usd or 0.0 for cost in costs), default=0.0)
    if not said:
        said.append(f"The rows of the dearest arm cost {_usd(paid_rows)} in LLM calls.")
    said.append(f"Judging in this study cost {_usd(judged)}.")
    return " ".join(said)


def _usd(value: float) -> str:
    return f"{value:,.4f} USD" if value else "nothing"
