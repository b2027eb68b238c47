"""The rows of the final data set: what was selected of each live seed, and which of them the settings under ``dataset`` keep."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from star_pipeline.core.publishing.domain_shares import parts
from star_pipeline.core.records import (
    SEED_PAIR,
    Candidate,
    CatalogEntry,
    CompositeScore,
    IfdScore,
    LeftOutReason,
    LeftOutRow,
    Message,
    Seed,
    StarRow,
)


def star_rows(
    shard: str,
    seeds: Sequence[Seed],
    entries: dict[str, CatalogEntry],
    candidates: Iterable[Candidate],
    scores: Iterable[CompositeScore],
    ifd_scores: Iterable[IfdScore],
) -> list[StarRow]:
    """The shard's part of the final data set: one row for each seed that ``entries`` (the catalogue) says is live."""
    candidate_of = {candidate.candidate_id: candidate for candidate in candidates}
    ifd_of = {score.candidate_id: score for score in ifd_scores}
    chosen = {score.seed_id: score for score in scores if score.selected}
    rows = []
    for seed in seeds:
        entry = entries.get(seed.seed_id)
        if entry is None or not entry.live:
            continue
        score = chosen[seed.seed_id]
        candidate, difficulty = candidate_of[score.candidate_id], ifd_of[score.candidate_id]
        own = score.selection == "fallback_seed"
        instruction = seed.instruction if own else candidate.instruction or ""
        response = seed.response if own else candidate.response or ""
        opening = (Message("system", seed.system),) if seed.system else ()
        rows.append(
            StarRow(
                seed_id=seed.seed_id,
                messages=(*opening, *seed.history, Message("user", instruction), Message("assistant", response)),
                instruction=instruction,
                response=response,
                pair_id=SEED_PAIR if own else score.pair_id,
                pi=score.pi,
                pi_dual=score.pi_dual,
                pi_llm=score.pi_llm,
                ifd_small=difficulty.ifd_small,
                ifd_large=difficulty.ifd_large,
                gap=score.gap,
                shard=shard,
                source=entry.source,
                source_row=entry.source_row,
                candidate_id=score.candidate_id,
                selection=score.selection or "fallback_seed",
            )
        )
    return rows


def best_first(rows: Sequence[StarRow]) -> list[int]:
    """The rows' numbers, by pi, then gap, then seed_id; what has no pi or gap comes last."""

    def rank(number: int) -> tuple[float, float, str]:
        row = rows[number]
        return -(row.pi or 0.0), math.inf if row.gap is None else -row.gap, row.seed_id

    return sorted(range(len(rows)), key=rank)


Fallbacks = Literal["keep", "drop"]


@dataclass(frozen=True, slots=True)
class KeepRules:
    """What of the selected rows goes into the final data set (the settings under ``dataset``)."""

    fallbacks: Fallbacks = "keep"
    min_pi: float = 0.0
    near_duplicates: int | None = None
    top_share: float = 1.0
    rows: int | None = None


def kept_rows(
    rows: Sequence[StarRow],
    rules: KeepRules,
    leader_of: Mapping[str, str],
    overlap_of: Mapping[str, str] = MappingProxyType({}),
    domain_of: Mapping[str, int] = MappingProxyType({}),
    share_of: Mapping[int, Fraction] = MappingProxyType({}),
) -> tuple[list[StarRow], list[LeftOutRow]]:
    """The rows that the rules keep, and those that they leave out, both in the given order.

    One after the other, each on what the one before left: overlaps, fallbacks, ``min_pi``, at most ``near_duplicates`` of a group (the
    best), of what is then there the ceil(``top_share`` * n) best, and
    ``rows`` of them, the best of each domain in proportion. Best is by pi, then gap, then seed_id; no pi counts 0.
    ``leader_of``: seed_id -> seed_id of its group's leader; where a row is not named, it is a group of its own.
    ``overlap_of``: seed_id -> what the row shares with an evaluation question, of those that do.
    ``domain_of``: seed_id -> domain, which ``rows`` needs; those not named are a domain together. ``share_of``: domain -> its share of
    ``rows``, in place of a part in proportion; where it has fewer rows, no other domain has more for it.
    """
    out: dict[int, tuple[LeftOutReason, str]] = {}
    left: list[int] = []
    groups: Counter[str] = Counter()
    for number in best_first(rows):
        row = rows[number]
        leader = leader_of.get(row.seed_id, row.seed_id)
        if shared := overlap_of.get(row.seed_id):
            out[number] = "overlap", f"{shared} (dataset.decontaminate)"
        elif rules.fallbacks == "drop" and row.selection != "best":
            out[number] = "fallback", f"{row.selection}, and dataset.fallbacks is drop"
        elif (row.pi or 0.0) < rules.min_pi:
            value = "it has no pi" if row.pi is None else f"its pi is {row.pi:.4g}"
            out[number] = "min_pi", f"{value}, and dataset.min_pi is {rules.min_pi:g}"
        elif rules.near_duplicates is not None and groups[leader] >= rules.near_duplicates:
            there = f"{rules.near_duplicates:,} better of the group of {leader} kept"
            out[number] = "near_duplicate", f"{there}, and dataset.near_duplicates allows no more"
        else:
            groups[leader] += 1
            left.append(number)
    most = math.ceil(Fraction(str(rules.top_share)) * len(left))
    for place, number in enumerate(left[most:], start=most + 1):
        where = f"place {place:,} by pi of {len(left):,} rows"
        out[number] = "top_share", f"{where}, and dataset.top_share {rules.top_share:g} keeps {most:,}"
    if rules.rows is not None:
        out |= _beyond(rows, left[:most], rules.rows, domain_of, share_of)
    kept = [row for number, row in enumerate(rows) if number not in out]
    return kept, [
        LeftOutRow(row.seed_id, row.shard, row.candidate_id, *out[number])
        for number, row in enumerate(rows)
        if number in out
    ]


def _beyond(
    rows: Sequence[StarRow],
    ranked: Sequence[int],
    most: int,
    domain_of: Mapping[str, int],
    share_of: Mapping[int, Fraction],
) -> dict[int, tuple[LeftOutReason, str]]:
    """Of the rows' numbers, best first, those beyond the ``most`` that are to be kept, with the reason."""
    inside: dict[int, list[int]] = {}
    for number in ranked:
        inside.setdefault(domain_of.get(rows[number].seed_id, -1), []).append(number)
    kept = parts({domain: len(numbers) for domain, numbers in inside.items()}, most, share_of)
    return {
        number: (
            "rows",
            f"place {place:,} by pi of {len(numbers):,} rows of domain {domain}, of which dataset.rows {most:,} keeps {kept[domain]:,}",
        )
        for domain, numbers in inside.items()
        for place, number in enumerate(numbers[kept[domain] :], start=kept[domain] + 1)
    }
