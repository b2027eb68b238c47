"""How many rows each task domain has of a data set of so many: in proportion, or by shares that were set."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction

from star_pipeline.core.errors import ConfigError
from star_pipeline.core.records import LeftOutRow, StarRow


def shares(counts: Mapping[int, int], total: int) -> dict[int, int]:
    """``total`` parted in proportion to ``counts`` (largest remainders; of equal ones the lower key): no part is above its count.

    Where the counts sum to no more than ``total``, the counts themselves.
    """
    there = sum(counts.values())
    if there <= total:
        return dict(counts)
    return _rounded({key: Fraction(count * total, there) for key, count in counts.items()}, total)


def parts(counts: Mapping[int, int], total: int, share_of: Mapping[int, Fraction]) -> dict[int, int]:
    """How many of ``total`` rows each domain is to have, which can be more than its ``counts`` of rows.

    Those in ``share_of`` have their share of ``total``, the others divide the rest in proportion to their counts; parts are whole by
    largest remainders. Without ``share_of`` all divide in proportion, and none has more than there are.
    """
    if not share_of:
        return shares(counts, total)
    others = {key: count for key, count in counts.items() if key not in share_of and count}
    there, rest = sum(others.values()), 1 - sum(share_of.values(), Fraction(0))
    exact = {key: share * total for key, share in share_of.items()}
    exact |= {key: rest * total * count / there for key, count in others.items()}
    # without others their part is nobody's
    return _rounded(exact, total if others else math.floor((1 - rest) * total))


def _rounded(exact: Mapping[int, Fraction], total: int) -> dict[int, int]:
    made = {key: math.floor(part) for key, part in exact.items()}
    over = sorted(exact, key=lambda key: (made[key] - exact[key], key))
    for key in over[: total - sum(made.values())]:
        made[key] += 1
    return made


def named_shares(told: Mapping[str, float], names: Mapping[int, str]) -> dict[int, Fraction]:
    """domain -> its share. ``told`` names domains as they are called in ``names``, or by a word that one of them alone has.

    Raises ConfigError for a name that is none, is several, or is told twice. Where no row is there yet, there are no domains.
    """
    found: dict[int, Fraction] = {}
    for name, share in told.items() if names else ():
        fits = [domain for domain, whole in names.items() if whole == name] or [
            domain for domain, whole in names.items() if name.casefold() in whole.casefold().split(", ")
        ]
        if len(fits) != 1 or fits[0] in found:
            few = (
                "is no task domain"
                if not fits
                else "is told twice"
                if len(fits) == 1
                else f"is in the names of {len(fits)}"
            )
            there = "; ".join(sorted(names.values()))
            raise ConfigError(
                f"dataset.domain_shares: {name!r} {few}; expected the name of a domain, or a word that one alone has, once: {there}"
            )
        found[fits[0]] = Fraction(str(share))
    return found


def shortages(
    kept: Iterable[StarRow],
    left_out: Iterable[LeftOutRow],
    total: int | None,
    share_of: Mapping[int, Fraction],
    domain_of: Mapping[str, int],
    names: Mapping[int, str],
) -> list[str]:
    """Which domains have fewer rows than ``share_of`` gives them of ``total``, in words; empty where none is set."""
    if total is None or not share_of:
        return []
    here = Counter(domain_of.get(row.seed_id, -1) for row in kept)
    before = here + Counter(domain_of.get(row.seed_id, -1) for row in left_out if row.reason == "rows")
    wanted = parts(before, total, share_of)
    short = [
        f"domain {names[domain]!r} has {here[domain]:,} of {wanted[domain]:,}"
        for domain in sorted(share_of)
        if here[domain] < wanted[domain]
    ]
    had = sum(count for domain, count in here.items() if domain not in share_of)
    rest = total - sum(wanted[domain] for domain in share_of)
    return short + ([f"the other domains have {had:,} of {rest:,}"] if had < rest else [])
