"""What must hold for the tables of a shard, and what is worth a look: pure checks, each with its finding in one line.

A ``Rule`` says what is asked and whether wrong data would flow on if it fails; a ``Finding`` what was found, and what to do.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from star_pipeline.core.equations.calibration import Calibration, broken_gaps
from star_pipeline.core.equations.judge_modes import by_margin, chance_better, margin_of
from star_pipeline.core.equations.verdicts import PI_LLM, Ties, plurality
from star_pipeline.core.errors import CheckFailed
from star_pipeline.core.rates import rate
from star_pipeline.core.records import (
    Candidate,
    CompositeScore,
    IfdScore,
    JudgeVerdict,
    PairProbability,
    PlanRow,
    Seed,
)
from star_pipeline.core.table_spec import AnyTable

R = TypeVar("R")
SUM_TOLERANCE = 1e-9
_SHOWN = 3


@dataclass(frozen=True)
class Rule:
    """``blocks``: where it fails, the table is not written and nothing is made from it; otherwise it is a warning."""

    name: str
    asks: str
    blocks: bool


@dataclass(frozen=True)
class Finding:
    """``text`` says what was found and, where ``passed`` is False, what was expected and what to do."""

    rule: Rule
    passed: bool
    text: str
    values: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True)
class WarningLimits:
    """The most that a share may be before it is a warning, in [0, 1]; of fewer than ``least_rows`` rows nothing is said."""

    failed_candidates: float
    ifd_above_1: float
    unparsed_verdicts: float
    flipped_verdicts: float
    fallbacks: float
    near_duplicates: float
    least_rows: int


CORRECT = Rule(
    "correct",
    "Do columns, types and keys fit the table's schema, are its numbers finite, is there a row for every row that the stage before asks "
    "for and none besides, and do the values follow from their equations?",
    True,
)
FAILED = Rule("failed_candidates", "Is the share of candidates that failed below checks.failed_candidates?", False)
IFD_ABOVE_1 = Rule(
    "ifd_above_1", "Is the share of responses that the instruction makes harder (IFD above 1) small?", False
)
UNPARSED = Rule(
    "unparsed_verdicts", "Could nearly all of the judge's replies be read, and did its calls succeed?", False
)
FLIPPED = Rule("flipped_verdicts", "Does the judge say the same when the two answers change places?", False)
FALLBACKS = Rule("fallbacks", "Is a better candidate than the reference found for most seeds?", False)
REJECTED = Rule("rejected_rows", "Could every record of the seed files be used?", False)

_RUN_AGAIN = "remove its file and run: star-pipeline run"


class Blocked(CheckFailed):
    """A blocking ``finding``: what a stage was given is not what it needs."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def require(*findings: Finding) -> None:
    """Raises Blocked for the first that did not pass: before a stage works on input that is damaged."""
    for finding in findings:
        if not finding.passed:
            raise Blocked(finding)


def not_looked_at(rule: Rule) -> Finding:
    """For the other rules of a stage that was blocked: without it they would be shown as checks that broke down."""
    return Finding(rule, False, "not looked at, since what the stage was given is damaged: see the check that blocks")


def rejected_rows(count: int, records: int) -> Finding:
    if not count:
        return Finding(REJECTED, True, f"all {records:,} records", {"rejected": 0})
    text = f"{count:,} records beside {records:,} usable ones were left out; the table rejected_rows holds them with their reasons"
    return Finding(REJECTED, False, text, {"rejected": count})


def well_formed(spec: AnyTable, table: pa.Table) -> Finding:
    """Schema, unique keys, finite numbers (nulls are allowed where the schema allows them)."""
    wrong = _wrong_schema(spec, table) or _repeated(spec, table) or _not_finite(table)
    if wrong:
        return Finding(CORRECT, False, f"{spec.name}: {wrong}; nothing was written, please report it")
    return Finding(CORRECT, True, f"{table.num_rows:,} rows", {"rows": table.num_rows})


def _wrong_schema(spec: AnyTable, table: pa.Table) -> str:
    expected = {name: str(kind) for name, kind in zip(spec.schema.names, spec.schema.types, strict=True)}
    found = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    odd = [name for name in (*expected, *found) if expected.get(name) != found.get(name)]
    return (
        f"column {odd[0]} is {found.get(odd[0], 'missing')}, expected {expected.get(odd[0], 'no such column')}"
        if odd
        else ""
    )


def _repeated(spec: AnyTable, table: pa.Table) -> str:
    keys = list(zip(*(table.column(name).to_pylist() for name in spec.key), strict=True))
    return (
        f"{len(keys) - len(set(keys))} rows repeat a {', '.join(spec.key)}, expected none"
        if len(set(keys)) < len(keys)
        else ""
    )


def _not_finite(table: pa.Table) -> str:
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        if pa.types.is_floating(kind):
            bad = pc.sum(pc.invert(pc.is_finite(table.column(name)))).as_py()
            if bad:
                return f"column {name} has {bad} NaN or infinite values, expected finite numbers or null"
    return ""


def plan_complete(seeds: Sequence[Seed], plan: Sequence[PlanRow]) -> Finding:
    """Every seed has slots 0, 1, …, the first of them the reference; an empty plan stands for a shard without live seeds."""
    slots: dict[str, list[int]] = {}
    for row in plan:
        slots.setdefault(row.seed_id, []).append(row.slot)
    wanted = [seed.seed_id for seed in seeds] if plan else []
    wrong = _difference(wanted, list(slots), "seeds")
    odd = [seed for seed, found in slots.items() if found != list(range(len(found)))]
    wrong = wrong or (f"slots of {listed(odd)} are not 0, 1, 2, …" if odd else "")
    return correct_finding("sampling_plan", wrong, f"{len(plan):,} rows for {len(slots):,} seeds")


def plan_consistent(plan: Sequence[PlanRow], pair_ids: Iterable[str]) -> Finding:
    """Drawn pairs are the configuration's, each with its probability in (0, 1]; the others have none."""
    known = set(pair_ids)
    odd = [
        row.candidate_id
        for row in plan
        if (row.origin in ("memory", "explore"))
        != (row.probability is not None and 0 <= row.probability <= 1 + SUM_TOLERANCE and row.pair_id in known)
    ]
    return correct_finding(
        "sampling_plan", f"{listed(odd)} drawn without a probability in [0, 1]" if odd else "", "as drawn"
    )


def one_a_rule(findings: Sequence[Finding]) -> list[Finding]:
    """One finding a rule, in order: it passed where all of them did, and else tells of those that did not."""
    merged = []
    for rule in dict.fromkeys(finding.rule for finding in findings):
        same = [finding for finding in findings if finding.rule == rule]
        told = [finding for finding in same if not finding.passed] or same
        values = {name: value for finding in same for name, value in finding.values.items()}
        merged.append(Finding(rule, told[0].passed, "; ".join(finding.text for finding in told), values))
    return merged


class HasCandidate(Protocol):
    @property
    def candidate_id(self) -> str: ...


def same_candidates(name: str, wanted: Iterable[HasCandidate], found: Iterable[HasCandidate]) -> Finding:
    """Table ``name`` has a row for each candidate that the stage before has, once, in the same order."""
    ids = [row.candidate_id for row in found]
    return correct_finding(
        name,
        _difference([row.candidate_id for row in wanted], ids, "candidates"),
        f"all {len(ids):,} candidates",
    )


def verdicts_complete(
    candidates: Sequence[Candidate], reference_ids: Mapping[str, str | None], rows: Sequence[JudgeVerdict]
) -> Finding:
    """A row for every candidate that was made and is not its seed's reference (``reference_ids``: seed_id -> candidate_id)."""
    wanted = [c for c in candidates if c.status == "ok" and c.candidate_id != reference_ids[c.seed_id]]
    return same_candidates("judge_verdicts", wanted, rows)


_PI_LLM = {"better": (1.0,), "worse": (0.0,), "tie": (0.5,), "inconsistent": (0.5, None)}


def verdicts_consistent(
    rows: Sequence[JudgeVerdict], margin: float = 0.0, soft: bool = False, ties: Ties = "half"
) -> Finding:
    """Eq. 6: 1, 0.5 or 0 by the verdict, null where there is none; with log-probabilities all of it follows from the log-odds,
    by ``judge.margin`` and ``judge.soft``. Where ``judge.ties`` lose, 0 stands for 0.5."""
    odd = [row.candidate_id for row in rows if not _follows(row, margin, soft, ties)]
    wrong = f"pi_llm of {listed(odd)} does not follow from the verdict" if odd else ""
    return correct_finding("judge_verdicts", wrong, "pi_llm follows from the verdicts")


def _follows(row: JudgeVerdict, margin: float, soft: bool, ties: Ties) -> bool:
    tie = 0.0 if ties == "lose" else 0.5
    if row.margin is None or row.p_better is None:
        return row.pi_llm in [tie if value == 0.5 else value for value in _PI_LLM.get(row.verdict, (None,))]
    odds = [(said.log_odds_first, said.log_odds_swapped) for said in row.judges or ()]
    odds = odds or [(row.log_odds_first, row.log_odds_swapped)]
    margins = [margin_of(first, swapped) for first, swapped in odds if first is not None and swapped is not None]
    votes = [by_margin(found, margin) for found in margins]
    expected = row.p_better if soft else tie if row.verdict == "tie" else PI_LLM.get(row.verdict)
    return (
        bool(margins)
        and row.verdict == plurality(votes)
        and row.pi_llm == expected
        and math.isclose(row.margin, math.fsum(margins) / len(margins), rel_tol=1e-9, abs_tol=1e-12)
        and math.isclose(row.p_better, chance_better(row.margin), rel_tol=1e-9, abs_tol=1e-12)
    )


def gaps_consistent(rows: Sequence[IfdScore], calibration: Calibration, least_tokens: int) -> Finding:
    """The gap is the IFDs' difference where the response is long enough, and the calibrated one follows from all rows' IFDs."""
    odd = broken_gaps(rows, calibration, least_tokens)
    wrong = f"the gaps of {listed(odd)} do not follow from their IFDs, scoring.calibration and scoring.least_tokens"
    return correct_finding("ifd_scores", wrong if odd else "", "gaps follow from the IFDs")


def scores_consistent(rows: Sequence[CompositeScore]) -> Finding:
    """Eq. 5 to 7 and Eq. 1: values in [0, 1], pi their product, and exactly one selection a seed."""
    odd = [
        row.candidate_id
        for row in rows
        if any(value is not None and not 0 <= value <= 1 for value in (row.pi_dual, row.pi_llm, row.pi))
        or (row.pi is not None and row.pi != 0 and not _product(row))
    ]
    chosen: dict[str, int] = {}
    for row in rows:
        chosen[row.seed_id] = chosen.get(row.seed_id, 0) + row.selected
    twice = [seed for seed, count in chosen.items() if count != 1]
    wrong = f"pi of {listed(odd)} is not pi_dual * pi_llm in [0, 1]" if odd else ""
    wrong = wrong or (f"{listed(twice)} have no or several selected candidates, expected one" if twice else "")
    return correct_finding("composite_scores", wrong, f"one selection for each of {len(chosen):,} seeds")


def _product(row: CompositeScore) -> bool:
    if row.pi is None or row.pi_dual is None or row.pi_llm is None:
        return False
    return math.isclose(row.pi, row.pi_dual * row.pi_llm, rel_tol=1e-9, abs_tol=1e-12)


def probabilities_consistent(rows: Sequence[PairProbability], parent: str, floor: float) -> Finding:
    """Eq. 8: they sum to 1 within 1e-9, none is below the floor, and the snapshot follows from the one before (``parent``)."""
    total, least = math.fsum(row.probability for row in rows), min(row.probability for row in rows)
    wrong = ""
    if abs(total - 1) > SUM_TOLERANCE:
        wrong = f"the probabilities sum to {total!r}, expected 1"
    elif least < floor - SUM_TOLERANCE:
        wrong = f"the probability {least!r} is below evolution.floor {floor!r}"
    elif {row.parent_snapshot_id for row in rows} != {parent}:
        wrong = f"it does not follow from snapshot {parent}"
    values = {"sum": total, "least": least}
    return correct_finding("agent_pair_probabilities", wrong, f"{len(rows)} pairs, the least {least:.4g}", values)


def failed_share(rows: Sequence[Candidate], shares: WarningLimits) -> Finding:
    paid = [row for row in rows if row.pair_id != "seed"]
    return share_finding(
        FAILED,
        paid,
        lambda row: row.status == "failed",
        shares.failed_candidates,
        shares.least_rows,
        "candidates failed",
        "look at the reasons: star-pipeline query failures",
    )


def ifd_above_1_share(rows: Sequence[IfdScore], shares: WarningLimits) -> Finding:
    scored = [row for row in rows if row.ifd_small is not None]
    return share_finding(
        IFD_ABOVE_1,
        scored,
        lambda row: (row.ifd_small or 0) > 1,
        shares.ifd_above_1,
        shares.least_rows,
        "responses have an IFD above 1 under the small model",
        "check that scoring.template is the one the model knows, and that responses belong to their instructions",
    )


def unparsed_share(rows: Sequence[JudgeVerdict], shares: WarningLimits) -> Finding:
    asked = [row for row in rows if row.verdict != "skipped"]
    return share_finding(
        UNPARSED,
        asked,
        lambda row: row.verdict in ("unparsed", "failed"),
        shares.unparsed_verdicts,
        shares.least_rows,
        "comparisons came to no verdict",
        "read reply_first in judge_verdicts; raise max_tokens in judge.params, or take another judge, then: "
        "star-pipeline run --rejudge SHARD",
    )


def flipped_share(rows: Sequence[JudgeVerdict], shares: WarningLimits) -> Finding:
    # where probabilities are read, a lean on position cancels and decides nothing
    heard = [row for row in rows if row.verdict in _PI_LLM and row.margin is None]
    return share_finding(
        FLIPPED,
        heard,
        lambda row: row.flipped,
        shares.flipped_verdicts,
        shares.least_rows,
        "verdicts turned round when the answers changed places",
        "the judge leans on position (judge.on_reversal says what such a verdict counts for): take another one, or judge.mode: logprobs, "
        "in which it cancels, then: "
        "star-pipeline run --rejudge SHARD, or in the UI the job rejudge, then refold_snapshots",
    )


def fallback_share(rows: Sequence[CompositeScore], shares: WarningLimits) -> Finding:
    chosen = [row for row in rows if row.selected]
    return share_finding(
        FALLBACKS,
        chosen,
        lambda row: row.selection != "best",
        shares.fallbacks,
        shares.least_rows,
        "seeds fell back to the reference or to themselves",
        "see why: star-pipeline query why (gaps not positive? the judge never says better?)",
    )


def share_finding(
    rule: Rule, rows: Sequence[R], counts: Callable[[R], bool], most: float, least_rows: int, what: str, remedy: str
) -> Finding:
    found = sum(map(counts, rows))
    share = found / len(rows) if rows else 0.0
    text = f"{rate(found, len(rows))} {what}"
    passed = share <= most or len(rows) < least_rows
    if not passed:
        text += f", expected at most {most:.0%} (checks.{rule.name}); {remedy}"
    return Finding(rule, passed, text, {"share": share, "count": found, "of": len(rows), "most": most})


def _difference(wanted: Sequence[str], found: Sequence[str], what: str) -> str:
    there, asked = set(found), set(wanted)
    missing, extra = [key for key in wanted if key not in there], [key for key in found if key not in asked]
    if missing:
        return f"{len(missing):,} of {len(wanted):,} {what} are missing ({listed(missing)})"
    if extra:
        return f"{len(extra):,} {what} were not asked for ({listed(extra)})"
    return "" if list(wanted) == list(found) else f"the {what} are not in the order of the stage before, or repeat"


def correct_finding(name: str, wrong: str, fine: str, values: Mapping[str, float | int] | None = None) -> Finding:
    if not wrong:
        return Finding(CORRECT, True, fine, values or {})
    remedy = f"nothing was written; make the stages before it again (a table of theirs is damaged: {_RUN_AGAIN})"
    return Finding(CORRECT, False, f"{name}: {wrong}; {remedy}", values or {})


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
