"""Frozen records that cross the stages. A field is a column of the table of the same name in ``tables``; None is null."""

from dataclasses import dataclass
from typing import Literal

from star_pipeline.core.intervals import Judgement

Origin = Literal["base", "seed", "memory", "explore"]
Verdict = Literal["better", "worse", "tie", "inconsistent", "unparsed", "skipped", "failed"]
Outcome = Literal["better", "worse", "tie"]
"""A candidate's fate in one of a judgement's two orders."""
Selection = Literal["best", "fallback_base", "fallback_seed"]
IfdStatus = Literal[
    "ok",
    "no_candidate",
    "empty_response",
    "prompt_refused",
    "unknown_token",
    "prompt_too_long",
    "not_finite",
    "too_short",
]

KEEP = "keep"
"""The instruction agent that changes nothing."""
SEED_PAIR = "seed"
"""The pair_id of the seed's own response as a free candidate."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Pair:
    """An agent-pair: instruction agent j rewrites, response agent k responds."""

    instruction_agent: str
    response_agent: str

    @property
    def pair_id(self) -> str:
        return SEED_PAIR if self == SEED else f"{self.instruction_agent}+{self.response_agent}"

    @classmethod
    def parse(cls, pair_id: str) -> "Pair":
        """Inverse of ``pair_id``; ValueError where the text has not exactly one ``+``."""
        if pair_id == SEED_PAIR:
            return SEED
        instruction_agent, response_agent = pair_id.split("+")
        return cls(instruction_agent, response_agent)


SEED = Pair(KEEP, SEED_PAIR)


@dataclass(frozen=True, slots=True)
class Seed:
    seed_id: str
    source: str
    source_row: int
    system: str | None
    history: tuple[Message, ...]
    instruction: str
    response: str


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A record of a seed file that is no seed, with the reason."""

    source: str
    source_row: int
    reason: str


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """Where a seed lives. ``position`` is its row in its shard; ``live`` is False once no seed file holds it any more."""

    seed_id: str
    shard: str
    position: int
    source: str
    source_row: int
    live: bool


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the memory bank near a query; ``similarity`` is the cosine in [-1, 1]."""

    seed_id: str
    pair_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class PlanRow:
    candidate_id: str
    seed_id: str
    slot: int
    pair_id: str
    instruction_agent: str
    response_agent: str
    origin: Origin
    probability: float | None
    snapshot_id: str
    neighbour_seed_ids: tuple[str, ...]
    neighbour_pair_ids: tuple[str, ...]
    neighbour_similarities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    candidate_id: str
    seed_id: str
    slot: int
    pair_id: str
    instruction: str | None
    response: str | None
    status: Literal["ok", "failed"]
    error_kind: str | None
    error: str | None
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float
    rewrite_attempts: int = 0
    rewrite_prompt_tokens: int = 0
    rewrite_completion_tokens: int = 0
    rewrite_cost_usd: float = 0.0
    warnings: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class IfdScore:
    candidate_id: str
    seed_id: str
    status: IfdStatus
    truncated: bool
    n_tokens_small: int | None = None
    nll_given_small: float | None = None
    nll_alone_small: float | None = None
    ifd_small: float | None = None
    n_tokens_large: int | None = None
    nll_given_large: float | None = None
    nll_alone_large: float | None = None
    ifd_large: float | None = None
    gap: float | None = None
    gap_calibrated: float | None = None

    @property
    def working_gap(self) -> float | None:
        """What Eq. 5 and all after it work on: the calibrated gap where the shard was scored with calibration."""
        return self.gap if self.gap_calibrated is None else self.gap_calibrated


@dataclass(frozen=True, slots=True)
class JudgeOpinion:
    """What one of several judges said of a candidate, in the columns of JudgeVerdict."""

    agent: str
    verdict: Verdict
    verdict_first: Outcome | None
    verdict_swapped: Outcome | None
    flipped: bool
    pi_llm: float | None
    log_odds_first: float | None
    log_odds_swapped: float | None
    margin: float | None
    reply_first: str | None
    reply_swapped: str | None
    error: str | None
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    candidate_id: str
    seed_id: str
    base_candidate_id: str | None
    template: str | None
    verdict: Verdict
    verdict_first: Outcome | None
    verdict_swapped: Outcome | None
    flipped: bool
    pi_llm: float | None
    reply_first: str | None
    reply_swapped: str | None
    error: str | None
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    judge_agent: str | None = None
    log_odds_first: float | None = None
    log_odds_swapped: float | None = None
    margin: float | None = None
    p_better: float | None = None
    judges: tuple[JudgeOpinion, ...] | None = None


@dataclass(frozen=True, slots=True)
class CompositeScore:
    candidate_id: str
    seed_id: str
    slot: int
    pair_id: str
    gap: float | None
    pi_dual: float | None
    pi_llm: float | None
    pi: float | None
    rank: int | None
    selected: bool
    selection: Selection | None
    gap_calibrated: float | None = None


@dataclass(frozen=True, slots=True)
class PairProbability:
    snapshot_id: str
    parent_snapshot_id: str
    shard: str
    pair_id: str
    n_sampled: int
    reward: float
    probability_before: float
    probability: float
    draws_total: int | None = None
    reward_total: float | None = None
    squares_total: float | None = None
    cost_total_usd: float | None = None
    handicap: float | None = None
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """One row of the memory bank; ``sequence`` is the shard's number, so that a query can leave the future out."""

    seed_id: str
    candidate_id: str
    shard: str
    sequence: int
    instruction: str
    pair_id: str
    pi: float


@dataclass(frozen=True, slots=True)
class ConfigUse:
    """A configuration that made tables of a lake, and of which shards; ``settings`` is JSON, None where it was not kept."""

    fingerprint: str
    name: str
    settings: str | None
    first_shard: str
    last_shard: str
    tables: int


@dataclass(frozen=True, slots=True)
class TableOrigin:
    """Which configuration made a shard's table."""

    made: str
    shard: str
    fingerprint: str
    name: str


@dataclass(frozen=True, slots=True)
class AgentSpend:
    """What the journal says that a lake spent on an agent in a stage."""

    agent: str
    stage: str
    replies: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    reservations: int
    reserved_usd: float


@dataclass(frozen=True, slots=True)
class HealthLine:
    """What one signature of a run that means nothing looks like here (``core.health``); ``figure`` is None where nothing tells."""

    signature: str
    verdict: Judgement
    what: str
    unit: str
    figure: float | None
    low: float | None
    high: float | None
    n: int
    meaning: str
    remedy: str


@dataclass(frozen=True, slots=True)
class StarRow:
    seed_id: str
    messages: tuple[Message, ...]
    instruction: str
    response: str
    pair_id: str
    pi: float | None
    pi_dual: float | None
    pi_llm: float | None
    ifd_small: float | None
    ifd_large: float | None
    gap: float | None
    shard: str
    source: str
    source_row: int
    candidate_id: str
    selection: Selection


@dataclass(frozen=True, slots=True)
class TaskDomain:
    """What a selected row is about, and which other rows ask nearly the same; ``domain`` 0 is the largest."""

    seed_id: str
    candidate_id: str
    shard: str
    domain: int
    domain_name: str
    nearest_seed_id: str | None
    nearest_similarity: float | None
    near_duplicate_of: str


LeftOutReason = Literal["overlap", "fallback", "min_pi", "near_duplicate", "top_share", "rows"]


@dataclass(frozen=True, slots=True)
class LeftOutRow:
    """A selected row that the settings under ``dataset`` keep out of the final data set; ``detail`` says why in words."""

    seed_id: str
    shard: str
    candidate_id: str
    reason: LeftOutReason
    detail: str
