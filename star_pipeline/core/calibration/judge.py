"""Is the judge fit? Accuracy where the answer is known, and whether it decides, keeps to it in the other order, and can be read."""

from collections.abc import Iterable, Mapping, Sequence

from star_pipeline.core.calibration.findings import (
    LOST,
    USEFUL,
    CalibrationFinding,
    JudgedPair,
    at_least,
    at_most,
    finding,
    within,
)
from star_pipeline.core.calibration.probes import DIFFER_PLAINLY, PLAIN
from star_pipeline.core.intervals import Estimate, bootstrap, share
from star_pipeline.core.rates import rate
from star_pipeline.core.records import JudgeVerdict

OF_THE_RUN = "run"
LEAST_DECIDED = 0.2
"""Of the comparisons that could be decided. A judge that decides fewer leaves pi at half of pi_dual nearly everywhere: the gap chooses."""
MOST_FLIPPED = 0.5
"""Of the pairs that are decided in both orders. A reply that does not look at the texts turns round in half of them, or in all."""
LEAN = (0.25, 0.75)
"""The share of verdicts that go to the place shown first; a judge that keeps to its verdict in the other order gives each place half."""
_FEWEST = 8
"""Known answers of a kind below which that kind has no verdict of its own."""
_KINDS = {
    "foreign": "the response to another seed beside the seed's own",
    "truncated": "half of the response beside the whole",
    "same": "the response beside itself, where neither is better",
    "shuffled": "the sentences in another order",
    "numbers": "every number changed",
}
_ANOTHER = "take another judge (judge.agent), a larger one if you can, and calibrate again"


def judged_pairs(verdicts: Sequence[JudgeVerdict], kind_of: Mapping[str, tuple[str, str]]) -> list[JudgedPair]:
    """Comparisons with what became of them; ``kind_of``: candidate_id -> (kind, pair_id). What the judge was not asked is left out."""
    asked = [row for row in verdicts if row.verdict != "skipped" and row.base_candidate_id is not None]
    return [
        JudgedPair(
            kind_of[row.candidate_id][0],
            row.seed_id,
            kind_of[row.candidate_id][1],
            row.verdict,
            row.verdict_first,
            row.verdict_swapped,
            row.flipped,
            _outcome(row, kind_of[row.candidate_id][0]),
            row.reply_first,
            row.reply_swapped,
        )
        for row in asked
    ]


def _outcome(row: JudgeVerdict, kind: str) -> str:
    if row.verdict in ("unparsed", "failed"):
        return "lost"
    decided = row.verdict in ("better", "worse")
    if kind == OF_THE_RUN:
        return "decided" if decided else "undecided"
    if kind == "same":  # nothing to prefer, in either order
        return "right" if row.verdict == "tie" else "wrong"
    return "undecided" if not decided else "right" if row.verdict == "worse" else "wrong"


def judge_findings(name: str, pairs: Sequence[JudgedPair]) -> list[CalibrationFinding]:
    """All that is said of the judge. A tie on a probe is undecided and no error: it misleads nobody, and counts where decisions do.

    Where it decides too few probes, its accuracy is told and not judged, and the verdict rests on its decisions in the run's own
    comparisons and on their holding in both orders, which a judge that does not look at the texts cannot achieve.
    """
    plain = [pair for pair in pairs if pair.kind in DIFFER_PLAINLY]
    accuracy = _known(plain)
    few = f"; with fewer than {_FEWEST} decided, accuracy is not judged" if not accuracy or accuracy.n < _FEWEST else ""
    found = [
        finding(
            "judge",
            name,
            "accuracy",
            accuracy,
            None if few else at_least(accuracy, USEFUL),
            f"right where a reader could not err and the judge decides: {_counted(accuracy)} ({len(plain):,} probes); a guess is right "
            f"in half{few}",
            f"its verdicts say little about the texts: {_ANOTHER}",
        )
    ]
    for kind in (kind for kind in _KINDS if any(pair.kind == kind for pair in pairs)):
        found.append(_of_kind(name, kind, [pair for pair in pairs if pair.kind == kind]))
    of_the_run = [pair for pair in pairs if pair.kind == OF_THE_RUN]
    open_to_decision, which = (
        (of_the_run, "the run's own comparisons") if len(of_the_run) >= _FEWEST else (plain, "the plain probes")
    )
    decided = share(sum(p.outcome in ("right", "wrong", "decided") for p in open_to_decision), len(open_to_decision))
    read = [pair for pair in pairs if pair.kind != "same"]
    both = [pair for pair in read if {pair.verdict_first, pair.verdict_swapped} <= {"better", "worse"}]
    # a judge whose margin decides may turn its letter round, and be right: the place cancels out
    cancels = any(pair.flipped and pair.verdict in ("better", "worse") for pair in pairs)
    flipped = share(sum(pair.verdict == "inconsistent" for pair in both), len(both))
    first = _lean(pairs)
    lost = share(sum(pair.outcome == "lost" for pair in pairs), len(pairs))
    return [
        *found,
        finding(
            "judge",
            name,
            "decided",
            decided,
            at_least(decided, LEAST_DECIDED),
            f"comes to a verdict that holds in both orders: {_counted(decided)} of {which}",
            f"with so few decisions the gap alone chooses: {_ANOTHER}",
        ),
        finding(
            "judge",
            name,
            "flip rate",
            flipped,
            at_most(flipped, MOST_FLIPPED),
            f"turns round with the order: {_counted(flipped)} pairs decided in both orders; blind to the texts, it would in half or more",
            f"it goes by the place and not by the text: {_ANOTHER}",
        ),
        finding(
            "judge",
            name,
            "position lean",
            first,
            None if cancels else within(first, *LEAN),
            "verdicts for the answer shown first: "
            + (f"{first.figure:.0%}, without a lean 50%" if first else "it decided nothing")
            + ("; its margin between the two orders decides, in which the place cancels out" if cancels else ""),
            f"it leans on the place: pairs that it turns round count as ties, and were paid twice for nothing: {_ANOTHER}",
        ),
        finding(
            "judge",
            name,
            "unparsed",
            lost,
            at_most(lost, LOST),
            f"no verdict to be read, or no reply: {_counted(lost)} comparisons",
            "raise judge.attempts or the judge's max_tokens, or mend its prompt; look at reply_first in judged_pairs.parquet",
        ),
    ]


def _known(pairs: Iterable[JudgedPair]) -> Estimate | None:
    outcomes = [pair.outcome for pair in pairs if pair.outcome in ("right", "wrong")]
    return share(outcomes.count("right"), len(outcomes))


def _of_kind(name: str, kind: str, pairs: Sequence[JudgedPair]) -> CalibrationFinding:
    """Of a kind that takes a closer look the verdict is at most ``doubtful``: a pair of the run may differ by more."""
    found = _known(pairs)
    verdict = at_least(found, USEFUL) if found and found.n >= _FEWEST else None
    if kind not in PLAIN and verdict is not None and found is not None:
        verdict = "doubtful" if found.high < USEFUL else "fine"
    undecided = sum(pair.outcome == "undecided" for pair in pairs)
    aside = f", {undecided:,} of {len(pairs):,} undecided" if undecided else ""
    remedy = f"it fails on {_KINDS[kind]}: {_ANOTHER}"
    return finding(
        "judge", name, f"accuracy, {kind}", found, verdict, f"{_KINDS[kind]}: right {_counted(found)}{aside}", remedy
    )


def _lean(pairs: Sequence[JudgedPair]) -> Estimate | None:
    """The share of single verdicts that went to the place shown first; over seeds, whose pairs are alike."""
    of_seed: dict[str, list[float]] = {}
    for pair in pairs:
        chosen = [pair.verdict_first == "better"] if pair.verdict_first in ("better", "worse") else []
        chosen += [pair.verdict_swapped == "worse"] if pair.verdict_swapped in ("better", "worse") else []
        if chosen:
            of_seed.setdefault(pair.seed_id, []).extend(map(float, chosen))
    return bootstrap(list(of_seed.values()), lambda groups: sum(float(g.sum()) for g in groups) / sum(map(len, groups)))


def _counted(found: Estimate | None) -> str:
    return rate(round(found.figure * found.n), found.n) if found else "0 of 0"
