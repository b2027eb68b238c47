"""What a final data set is made of, in words: how much of it is the seeds' own text, the reference's, and the drawn pairs'."""

from collections import Counter
from collections.abc import Collection, Iterable

from star_pipeline.core.records import SEED_PAIR

SEED, REFERENCE, BASE, SAMPLED = "seed", "reference", "base", "sampled"
"""Origins of a row, as the query ``selections`` names them."""
_WORDS = {
    SEED: ("unchanged seed", "unchanged seeds"),
    REFERENCE: ("of the reference", "of the reference"),
    BASE: ("of other base pairs", "of other base pairs"),
    SAMPLED: ("of sampled pairs", "of sampled pairs"),
}


def origin_of(pair_id: str, references: Collection[str], bases: Collection[str]) -> str:
    """The origin of a row that the pair made, where ``references`` and ``bases`` are the configuration's base pairs."""
    if pair_id == SEED_PAIR:
        return SEED
    return REFERENCE if pair_id in references else BASE if pair_id in bases else SAMPLED


def makeup(rows: Iterable[tuple[str, str, int]]) -> str:
    """In one line, of (origin, pair_id, rows): ``79 unchanged seeds (49%), 54 of the reference a+b (34%), …``; empty without rows."""
    counts: Counter[str] = Counter()
    pairs: dict[str, set[str]] = {}
    for origin, pair_id, count in rows:
        counts[origin] += count
        pairs.setdefault(origin, set()).add(pair_id)
    total = sum(counts.values())
    told = []
    for origin, (one, more) in _WORDS.items():
        if count := counts[origin]:
            named = f" {next(iter(pairs[origin]))}" if origin == REFERENCE and len(pairs[origin]) == 1 else ""
            told.append(f"{count:,} {one if count == 1 else more}{named} ({count / total:.0%})")
    return ", ".join(told)
