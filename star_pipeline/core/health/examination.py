"""All lines of a lake's health, in the order in which they are told."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from star_pipeline.core.checks import Finding, Rule
from star_pipeline.core.health import agents, judge, pairs, scores
from star_pipeline.core.health.lines import FINE, Signature, in_words
from star_pipeline.core.health.rows import Rows
from star_pipeline.core.records import HealthLine

SIGNATURES: tuple[Signature, ...] = (
    judge.REVERSALS,
    judge.POSITION,
    judge.UNPARSED,
    judge.TIES,
    judge.MARGIN,
    judge.LENGTH,
    scores.GAP,
    scores.SCORES,
    scores.FOLLOWS,
    pairs.MEMORY,
    pairs.EVOLUTION,
    pairs.CONCENTRATION,
    agents.REWRITES,
    agents.RESPONSES,
)
RULES = {signature.name: Rule(f"health_{signature.name}", signature.asks, False) for signature in SIGNATURES}
"""A check of the final data set for each signature; none blocks."""


SAME_IN_SHARDS = {
    "judge": "flipped_verdicts",
    "judge_unparsed": "unparsed_verdicts",
    "rewrites": "failed_candidates",
    "responses": "failed_candidates",
}
"""Signature -> the check of single shards (``core.checks``) that says no more where the signature's line is not fine."""


def health(
    candidates: pa.Table, moves: Sequence[Mapping[str, str | float | None]], published: Mapping[str, int]
) -> list[HealthLine]:
    """A line for each of SIGNATURES, in their order.

    ``candidates`` as ``Rows`` says, ``moves`` the rows of ``agent_pair_probabilities``, ``published`` pair_id -> rows of the final
    data set. The same tables give the same lines, whatever the order of their rows within a seed.
    """
    rows = Rows(candidates)
    return [
        *judge.judge_lines(rows),
        *scores.score_lines(rows),
        *pairs.pair_lines(rows, moves, published),
        *agents.agent_lines(rows),
    ]


def findings(lines: Sequence[HealthLine]) -> list[Finding]:
    """A warning for each line that is not fine."""
    return [
        Finding(
            RULES[line.signature],
            line.verdict == FINE,
            f"{line.verdict}: {in_words(line)}",
            {name: value for name in ("figure", "low", "high", "n") if (value := getattr(line, name)) is not None},
        )
        for line in lines
    ]
