"""The figures that Dagster's UI shows of a shard or of the lake: records become the rows that the figures' functions take."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from star_pipeline.core.rates import Z95
from star_pipeline.core.records import AgentSpend, Candidate, IfdScore, JudgeVerdict, PairProbability
from star_pipeline.figures import costs, judge, pairs, rows, scores
from star_pipeline.figures.base import Figure, Row

_BINS, _PLACES = 24, 60
_COMPARED = ("better", "worse", "tie", "inconsistent")


def probabilities(snapshots: Mapping[int, Sequence[PairProbability]]) -> Figure:
    """The pair probabilities over the shards; ``snapshots``: place of the shard, counted from 1 -> the snapshot after it, in order."""
    # of many shards every n-th, and the last
    nth = -(-len(snapshots) // _PLACES) or 1
    snapshots = dict([*snapshots.items()][::-1][::nth][::-1])
    places = list(snapshots)
    told: list[Row] = [
        {"place": places[0] - 1, "shard": "start", "pair_id": row.pair_id, "probability": row.probability_before}
        for row in (snapshots[places[0]] if places else ())
    ]
    told += [
        {"place": place, "shard": row.shard, "pair_id": row.pair_id, "probability": row.probability}
        for place, snapshot in snapshots.items()
        for row in snapshot
    ]
    last = {row["pair_id"]: row["probability"] for row in told}
    return pairs.probabilities(told, sorted(last, key=lambda pair: (-last[pair], pair)))


def ifd(of: Sequence[IfdScore]) -> Figure:
    """IFD under the small against the large model, candidates counted in squares up to the 99th percentile; the last hold the rest."""
    known = np.array(
        [(row.ifd_small, row.ifd_large) for row in of if row.ifd_small is not None and row.ifd_large is not None]
    ).reshape(-1, 2)
    if not len(known):
        return scores.ifd([])
    low, high = float(known.min()), float(np.quantile(known, 0.99, axis=0).max())
    width = (high - low) / _BINS
    places = (known - low) / (width or 1)
    counted = Counter(tuple(map(int, place)) for place in np.minimum(places, _BINS - 1).astype(int).tolist())
    return scores.ifd(
        [
            {
                "small_low": low + x * width,
                "small_high": low + (x + 1) * width,
                "large_low": low + y * width,
                "large_high": low + (y + 1) * width,
                "candidates": count,
            }
            for (x, y), count in counted.items()
        ]
    )


def gaps(of: Sequence[IfdScore], pair_of: Mapping[str, str]) -> Figure:
    """The gaps of each pair's candidates; ``pair_of``: candidate_id -> pair_id."""
    found: dict[str, list[float]] = {}
    for score in of:
        if (gap := score.working_gap) is not None:
            found.setdefault(pair_of[score.candidate_id], []).append(gap)
    told = []
    for pair_id, values in sorted(found.items(), key=lambda item: (-statistics.median(item[1]), item[0])):
        cuts = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
        positive = sum(value > 0 for value in values)
        told.append(
            {
                "pair_id": pair_id,
                "scored": len(values),
                "positive": positive,
                "positive_rate": positive / len(values),
                **dict(zip(("mean_gap", "mean_gap_low", "mean_gap_high"), _mean(values), strict=True)),
                **dict(zip(("p05", "p25", "median_gap", "p75", "p95"), cuts, strict=True)),
            }
        )
    return scores.gaps(told, counted=True)


def _mean(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The mean and the ends of its 95% interval by the normal approximation, None for a single value: as the queries have it."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = Z95 * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def verdicts(of: Sequence[JudgeVerdict], pair_of: Mapping[str, str]) -> Figure:
    """Verdicts by pair, with how often the judge reversed itself; ``pair_of``: candidate_id -> pair_id."""
    counted: Counter[tuple[str, str]] = Counter((pair_of[row.candidate_id], row.verdict) for row in of)
    reversals = {
        pair: (counted[pair, "inconsistent"], sum(counted[pair, verdict] for verdict in _COMPARED))
        for pair, _ in counted
    }
    told = [{"pair_id": pair, "verdict": verdict, "rows": count} for (pair, verdict), count in counted.items()]
    return judge.verdicts(told, reversals)


def cost_by_pair(of: Sequence[Candidate]) -> Figure:
    """What each pair's candidates cost: USD where there are prices, else tokens."""
    found: dict[str, list[Candidate]] = {}
    for row in of:
        found.setdefault(row.pair_id, []).append(row)
    return costs.by_pair(
        [
            {
                "pair_id": pair,
                "candidates": len(made),
                "prompt_tokens": sum(row.prompt_tokens for row in made),
                "completion_tokens": sum(row.completion_tokens for row in made),
                "cost_usd": sum(row.cost_usd for row in made),
            }
            for pair, made in found.items()
        ]
    )


def cost_by_agent(spend: Sequence[AgentSpend]) -> Figure:
    """What was paid for each agent, by stage."""
    return costs.by_agent(
        [
            {
                "agent": row.agent,
                "stage": row.stage,
                "requests": row.replies,
                "prompt_tokens": row.prompt_tokens,
                "completion_tokens": row.completion_tokens,
                "cost_usd": row.cost_usd,
            }
            for row in spend
        ],
        paid=True,
    )


def domains(names: Mapping[int, str], of: Sequence[tuple[int, str]]) -> Figure:
    """Selected rows by task domain; ``of``: (domain, selection) of each."""
    counted = Counter(of)
    return rows.by_domain(
        [
            {"domain": domain, "domain_name": names[domain], "selection": selection, "rows": count}
            for (domain, selection), count in sorted(counted.items())
        ]
    )
