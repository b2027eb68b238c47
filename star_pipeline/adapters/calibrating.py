"""Measures a configuration on a few seeds: the requests that a run would make of them first, and probes whose answers are known."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from star_pipeline.adapters import event_loop, stages
from star_pipeline.adapters.calibration_files import Details, keep_calibration
from star_pipeline.adapters.first_seeds import FirstSeeds
from star_pipeline.adapters.journal.opening import reading_journal
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.scoring.numerics import left_unsettled
from star_pipeline.config import StarConfig
from star_pipeline.core.calibration.agents import agent_findings, agent_replies
from star_pipeline.core.calibration.effort import cost_finding, time_finding, usd_of_seeds
from star_pipeline.core.calibration.findings import (
    AGENT_REPLIES,
    JUDGED_PAIRS,
    SCORED_TEXTS,
    CalibrationFinding,
    ScoredText,
)
from star_pipeline.core.calibration.judge import OF_THE_RUN, judge_findings, judged_pairs
from star_pipeline.core.calibration.probes import Probe, comparisons, probes_of, scoring_rows
from star_pipeline.core.calibration.scoring import CANDIDATE, ModelKind, scored_texts, scoring_findings
from star_pipeline.core.equations.ifd import score_candidates
from star_pipeline.core.journal import PICO
from star_pipeline.core.ports import ChatModel, Progress, Scorer, ScoringSample
from star_pipeline.core.records import Candidate, IfdScore, JudgeVerdict, Seed

SEEDS = 24
"""Seeds to calibrate on, where nothing else is asked for: enough to tell a judge from a coin, few enough to pay for."""


@dataclass(frozen=True)
class Outside:
    """What calibration asks: agents, the two scoring models, and of what kind these are, by role."""

    chat: Callable[[], ChatModel]
    small: Callable[[], Scorer]
    large: Callable[[], Scorer]
    kinds: Callable[[], Mapping[str, ModelKind]]


def calibrate(
    lake: Lake, settings: StarConfig, first: FirstSeeds, outside: Outside, progress: Progress
) -> list[CalibrationFinding]:
    """Measure, keep what was found in ``calibration/``, and return it. Raises StarError; what was answered stays in the journal."""
    seeds, plan = first.seeds, first.plan
    progress.note(f"calibrating {settings.name} on {len(seeds):,} seeds")
    asked, began = _replies(lake, settings), time.monotonic()
    candidates = event_loop.run(_generated(settings, first, outside, progress))
    generating = time.monotonic() - began
    scores, texts, first_nats, scoring = _scored(lake, settings, seeds, candidates, outside)
    scored = time.monotonic()
    probes = probes_of(seeds)
    of_the_run, of_probes = event_loop.run(_judged(settings, seeds, (candidates, scores), probes, outside, progress))
    spent = _replies(lake, settings) - asked
    pairs = judged_pairs(of_probes, {probe.candidate_id: (probe.kind, probe.kind) for probe in probes})
    pairs += judged_pairs(of_the_run, {row.candidate_id: (OF_THE_RUN, row.pair_id) for row in candidates})
    judge = next((row.judge_agent for row in (*of_probes, *of_the_run) if row.judge_agent), None) or "judge"
    replies = agent_replies(plan, candidates)
    usd = usd_of_seeds(seeds, candidates, of_the_run)
    made = sum(row.attempts for row in candidates) + sum(row.attempts for row in of_the_run)
    latency = [sum(row.latency_s for row in candidates if row.seed_id == seed.seed_id) for seed in seeds]
    # judging probes is no part of a run: of the time that judging took, the run's share of the comparisons
    judging = (time.monotonic() - scored) * len(of_the_run) / max(len(pairs), 1)
    seconds = generating + scoring * len(candidates) / max(len(texts), 1) + judging
    names = {"small": str(settings.scoring.small), "large": str(settings.scoring.large)}
    found = [
        *judge_findings(judge, pairs),
        *scoring_findings(names, texts, first_nats, outside.kinds()),
        *agent_findings(replies, (*settings.pairs.sampled_pairs, *settings.pairs.base_pairs)),
        cost_finding(usd, first.left, _budget_left(lake, settings)),
        time_finding(seconds, latency, first.left, fresh=2 * spent >= made),
    ]
    now = datetime.now(UTC).isoformat("T", "seconds")
    name = settings.calibration_fingerprint
    found = [
        replace(row, fingerprint=name, config_name=settings.name, seeds=len(seeds), measured_at=now) for row in found
    ]
    details: Details = {JUDGED_PAIRS.name: pairs, SCORED_TEXTS.name: texts, AGENT_REPLIES.name: replies}
    keep_calibration(lake, found, details, name)
    return found


async def _generated(settings: StarConfig, first: FirstSeeds, outside: Outside, progress: Progress) -> list[Candidate]:
    async with aclosing(outside.chat()) as chat:
        return await stages.generator(settings, chat).candidates(first.plan, first.seeds, progress)


async def _judged(
    settings: StarConfig,
    seeds: Sequence[Seed],
    made: tuple[Sequence[Candidate], Sequence[IfdScore]],
    probes: Sequence[Probe],
    outside: Outside,
    progress: Progress,
) -> tuple[list[JudgeVerdict], list[JudgeVerdict]]:
    """(the run's own comparisons, of the candidates and scores that were ``made``; those of the probes)."""
    async with aclosing(outside.chat()) as chat:
        of_the_run = await stages.judge(settings, chat, made[0], seeds, made[1], progress)
        rows, scores = comparisons(probes, seeds)
        return of_the_run, await stages.judge(settings, chat, rows, seeds, scores, progress)


def _scored(
    lake: Lake, settings: StarConfig, seeds: Sequence[Seed], candidates: Sequence[Candidate], outside: Outside
) -> tuple[list[IfdScore], list[ScoredText], dict[str, list[float]], float]:
    """(the candidates' scores, all scored texts, nats of each response's first token by role, seconds that scoring the texts took)."""
    with left_unsettled(lake.numerics):
        small, large = outside.small(), outside.large()
        own = scoring_rows(seeds)
        began = time.monotonic()
        scores = stages.score(settings, candidates, seeds, small, large)
        own_scores = score_candidates(own, seeds, lambda: small, lambda: large)
        if settings.scoring.calibration != "none":  # a raw gap does not go with the candidates', which are of ranks
            own_scores = [replace(row, gap=None) for row in own_scores]
        seconds = time.monotonic() - began
        first_nats = {role: _first_nats(scorer, seeds) for role, scorer in (("small", small), ("large", large))}
    kinds = {row.candidate_id: CANDIDATE for row in candidates} | {row.candidate_id: row.pair_id for row in own}
    return scores, scored_texts(kinds, [*scores, *own_scores]), first_nats, seconds


def _first_nats(scorer: Scorer, seeds: Sequence[Seed]) -> list[float]:
    """What the first token of each seed's response costs with the start token alone before it, where its first word is one token."""
    words = [seed.response.split(None, 1)[0] for seed in seeds if seed.response.strip()]
    samples = [ScoringSample(None, (), "", word) for word in words]
    fits = [
        (sample, fit.kept_chars) for sample, fit in zip(samples, scorer.fit(samples), strict=True) if fit.status == "ok"
    ]
    if not fits:
        return []
    losses = scorer.losses([sample for sample, _ in fits], [kept for _, kept in fits])
    return [loss.nll_alone for loss in losses if loss.n_tokens == 1]


def _replies(lake: Lake, settings: StarConfig) -> int:
    """Replies that this lake has paid so far."""
    with reading_journal(settings, lake) as journal:
        return sum(row.replies for row in journal.ledger())


def _budget_left(lake: Lake, settings: StarConfig) -> float | None:
    if settings.budget.usd is None:
        return None
    with reading_journal(settings, lake) as journal:
        return settings.budget.usd - sum(row.spent + row.reserved for row in journal.ledger()) / PICO
