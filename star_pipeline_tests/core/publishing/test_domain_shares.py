"""Parts of domains, against what apportionment by largest remainders has to be, and the names that domains are told by."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.errors import ConfigError
from star_pipeline.core.publishing.domain_shares import named_shares, parts, shares, shortages
from star_pipeline.core.publishing.rows import KeepRules, kept_rows
from star_pipeline_tests.core.equations.test_selection import star_row

NAMES = {0: "sum, number, add", 1: "poem, verse", 2: "number, phone"}


def test_what_is_over_goes_to_the_largest_remainders():
    assert shares({0: 5, 1: 3, 2: 2}, 4) == {0: 2, 1: 1, 2: 1}
    assert shares({0: 1, 1: 1, 2: 1}, 2) == {0: 1, 1: 1, 2: 0}
    assert parts({0: 50, 1: 30, 2: 20}, 10, {1: Fraction("0.55")}) == {0: 3, 1: 6, 2: 1}


COUNTS = st.dictionaries(st.integers(0, 5), st.integers(0, 30), min_size=1)


@given(COUNTS, st.integers(1, 60), st.data())
def test_shares_are_met_to_less_than_a_row_and_the_others_divide_the_rest_in_proportion(counts, total, data):
    named = data.draw(st.sets(st.sampled_from(sorted(counts)), min_size=1))
    share_of = {domain: Fraction(data.draw(st.integers(0, 100)), 100 * len(named)) for domain in named}
    found = parts(counts, total, share_of)
    others = {domain: count for domain, count in counts.items() if domain not in named and count}
    rest = 1 - sum(share_of.values())
    for domain, share in share_of.items():
        assert abs(found[domain] - share * total) < 1
    for domain, count in others.items():
        assert abs(found[domain] - rest * total * count / sum(others.values())) < 1
    assert sum(found.values()) == (total if others else int((1 - rest) * total))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 40), st.sampled_from([0, 0.25, 0.5, 1]))
def test_each_domain_keeps_its_best_up_to_its_part_and_what_is_short_is_said(drawn, total, share):
    rows = [star_row(f"s{n:02}", n / 100) for n in range(len(drawn))]
    domain_of = {f"s{n:02}": domain for n, domain in enumerate(drawn)}
    share_of = {1: Fraction(str(share))}
    kept, out = kept_rows(rows, KeepRules(rows=total), {}, {}, domain_of, share_of)
    counts = {domain: drawn.count(domain) for domain in set(drawn)}
    wanted = parts(counts, total, share_of)
    for domain, count in counts.items():
        here = [row for row in rows if domain_of[row.seed_id] == domain]
        assert [row for row in kept if domain_of[row.seed_id] == domain] == here[count - min(count, wanted[domain]) :]
    said = shortages(kept, out, total, share_of, domain_of, NAMES)
    assert bool(said) == (len(kept) < total)
    if counts.get(1, 0) < wanted[1]:
        assert said[0] == f"domain 'poem, verse' has {counts.get(1, 0)} of {wanted[1]}"


def test_a_domain_is_told_by_its_name_or_by_a_word_that_it_alone_has():
    assert named_shares({"poem": 0.1, "number, phone": 0.2}, NAMES) == {1: Fraction(1, 10), 2: Fraction(1, 5)}
    assert named_shares({"math": 0.1}, {}) == {}
    for told, words in (
        ({"math": 0.1}, "'math' is no task domain; expected .*: number, phone; poem, verse; sum, number, add"),
        ({"number": 0.1}, "'number' is in the names of 2"),
        ({"poem": 0.1, "verse": 0.1}, "'verse' is told twice"),
    ):
        with pytest.raises(ConfigError, match=words):
            named_shares(told, NAMES)
