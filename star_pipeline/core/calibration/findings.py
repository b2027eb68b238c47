"""What calibration found: a figure with its interval, a verdict and a remedy, and the tables that they are kept in.

One level for all shares: right two times of three (``USEFUL``), lost at most once in three (``LOST``). A figure is ``fine`` where all
of its 95% interval is on the good side of its level, ``unfit`` where all of it is on the other, and ``doubtful`` where the
interval holds the level: then the seeds were too few to tell, or it is just so. A guess is right one time of two, so that 24 seeds, some
70 comparisons, show it to be unfit (its interval ends near 0.62), and a judge that errs once in ten to be fine (its begins near 0.80).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from star_pipeline.core.intervals import Estimate, Judgement
from star_pipeline.core.table_spec import BOOL, FLOAT, INT, TEXT, Column, TableSpec

USEFUL = 2 / 3
LOST = 1 / 3
Subject = Literal["judge", "scoring", "instruction agent", "response agent", "run"]
IN_WORDS: dict[Judgement, str] = {"fine": "fit", "doubtful": "doubtful", "unfit": "unfit"}
_RANKS: tuple[Judgement, ...] = ("fine", "doubtful", "unfit")


@dataclass(frozen=True, slots=True)
class CalibrationFinding:
    """``verdict`` is None where the figure is told, and decides nothing; ``n`` independent things are behind it."""

    subject: Subject
    name: str
    measure: str
    figure: float | None
    low: float | None
    high: float | None
    n: int
    verdict: Judgement | None
    meaning: str
    remedy: str | None
    fingerprint: str = ""
    config_name: str = ""
    seeds: int = 0
    measured_at: str = ""


def finding(
    subject: Subject,
    name: str,
    measure: str,
    found: Estimate | None,
    verdict: Judgement | None,
    meaning: str,
    remedy: str | None,
) -> CalibrationFinding:
    """With the remedy only where one is needed; where more seeds could tell, they come first."""
    figure, low, high, n = (found.figure, found.low, found.high, found.n) if found else (None, None, None, 0)
    shown = None if verdict in (None, "fine") else remedy
    if shown and verdict == "doubtful" and found and found.low < found.high:
        shown = f"{measure} may be better than its interval shows: a larger --count tells; if it stays so, {shown}"
    return CalibrationFinding(subject, name, measure, figure, low, high, n, verdict, meaning, shown)


def at_least(found: Estimate | None, level: float) -> Judgement | None:
    """What to make of a figure that should be ``level`` or more; None of nothing."""
    if found is None:
        return None
    return "fine" if found.low >= level else "unfit" if found.high < level else "doubtful"


def at_most(found: Estimate | None, level: float) -> Judgement | None:
    """What to make of a figure that should be ``level`` or less; None of nothing."""
    if found is None:
        return None
    return "fine" if found.high <= level else "unfit" if found.low > level else "doubtful"


def within(found: Estimate | None, low: float, high: float) -> Judgement | None:
    """What to make of a figure that should be between the two; None of nothing."""
    if found is None:
        return None
    if found.low >= low and found.high <= high:
        return "fine"
    return "unfit" if found.high < low or found.low > high else "doubtful"


def worst(verdicts: Iterable[Judgement | None]) -> Judgement:
    """The worst that was given; ``doubtful`` where nothing could be told."""
    given = [_RANKS.index(verdict) for verdict in verdicts if verdict]
    return _RANKS[max(given)] if given else "doubtful"


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A comparison: of a probe with the seed's own response (``kind`` says how it was made), or of the run's own (``run``).

    ``outcome``: ``right`` or ``wrong`` where the answer is known, ``decided`` where it is not, ``undecided`` (a tie, or turned round with
    the order) or ``lost`` (nothing readable).
    """

    kind: str
    seed_id: str
    pair_id: str
    verdict: str
    verdict_first: str | None
    verdict_swapped: str | None
    flipped: bool
    outcome: str
    reply_first: str | None
    reply_swapped: str | None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text under both models; ``kind``: a seed's response with its own instruction (``true``), with another seed's (``other``), or a
    candidate (``candidate``)."""

    kind: str
    candidate_id: str
    seed_id: str
    n_tokens_small: int | None
    n_tokens_large: int | None
    ifd_small: float | None
    ifd_large: float | None
    gap: float | None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class AgentReply:
    """What became of a reply: ``kind`` is ``ok`` or the ``error_kind``."""

    agent: str
    role: str
    seed_id: str
    kind: str
    detail: str | None
    warned: bool = False
    fingerprint: str = ""


_FINGERPRINT = Column("fingerprint", TEXT, "names the agents, judge, scoring and prompts that were calibrated", False)
_SEED_ID = Column("seed_id", TEXT, "the seed", False)

FINDINGS = TableSpec(
    "findings",
    CalibrationFinding,
    (
        _FINGERPRINT,
        Column("config_name", TEXT, "the configuration's name", False),
        Column("measured_at", TEXT, "when, in UTC", False),
        Column("seeds", INT, "seeds it was measured on", False),
        Column("subject", TEXT, "judge, scoring, instruction agent, response agent or run", False),
        Column("name", TEXT, "the agent or model", False),
        Column("measure", TEXT, "what was measured", False),
        Column("figure", FLOAT, "the figure; null where there was nothing to measure"),
        Column("low", FLOAT, "where its 95% interval begins"),
        Column("high", FLOAT, "where its 95% interval ends"),
        Column("n", INT, "independent things behind it", False),
        Column("verdict", TEXT, "fine, doubtful or unfit; null where the figure decides nothing"),
        Column("meaning", TEXT, "the same in words", False),
        Column("remedy", TEXT, "what to do; null where nothing is wrong"),
    ),
    ("fingerprint", "subject", "name", "measure"),
)
JUDGED_PAIRS = TableSpec(
    "judged_pairs",
    JudgedPair,
    (
        _FINGERPRINT,
        Column(
            "kind",
            TEXT,
            "foreign, truncated, shuffled, numbers, same, or run: a comparison that the run makes too",
            False,
        ),
        _SEED_ID,
        Column("pair_id", TEXT, "the agent-pair, of a run's comparison; else the kind", False),
        Column("verdict", TEXT, "of both orders together, for the probe or the candidate (Eq. 6)", False),
        Column("verdict_first", TEXT, "in the order in which it came first"),
        Column("verdict_swapped", TEXT, "in the other"),
        Column("flipped", BOOL, "turned round with the order", False),
        Column("outcome", TEXT, "right, wrong, decided, undecided or lost", False),
        Column("reply_first", TEXT, "the judge's words"),
        Column("reply_swapped", TEXT, "the judge's words"),
    ),
    ("fingerprint", "kind", "seed_id", "pair_id"),
)
SCORED_TEXTS = TableSpec(
    "scored_texts",
    ScoredText,
    (
        _FINGERPRINT,
        Column("kind", TEXT, "true, other or candidate", False),
        Column("candidate_id", TEXT, "names the text", False),
        _SEED_ID,
        Column("n_tokens_small", INT, "response tokens under the small model"),
        Column("n_tokens_large", INT, "response tokens under the large model"),
        Column("ifd_small", FLOAT, "IFD under the small model (Eq. 4)"),
        Column("ifd_large", FLOAT, "IFD under the large model (Eq. 4)"),
        Column("gap", FLOAT, "the difference"),
    ),
    ("fingerprint", "kind", "candidate_id"),
)
AGENT_REPLIES = TableSpec(
    "agent_replies",
    AgentReply,
    (
        _FINGERPRINT,
        Column("agent", TEXT, "the agent", False),
        Column("role", TEXT, "instruction agent or response agent", False),
        _SEED_ID,
        Column("kind", TEXT, "ok, or the error_kind", False),
        Column("detail", TEXT, "the error, or the warning"),
        Column("warned", BOOL, "kept, with a warning", False),
    ),
    (),
)
DETAILS = (JUDGED_PAIRS, SCORED_TEXTS, AGENT_REPLIES)
"""What the findings were measured on."""
