"""The checks on the final data set and its domains, on tables that are right and on tables with one thing wrong."""

from dataclasses import replace

import pytest

from star_pipeline.core.checks import WarningLimits
from star_pipeline.core.publishing import checks
from star_pipeline.core.records import CatalogEntry, LeftOutRow, Message, StarRow, TaskDomain

SHARES = WarningLimits(0.1, 0.5, 0.1, 0.3, 0.5, 0.5, least_rows=10)


def test_the_final_data_set_holds_live_seeds_that_end_in_their_response():
    messages = (Message("user", "i"), Message("assistant", "r"))
    row = StarRow("x", messages, "i", "r", "keep+a", *(None,) * 6, "000001-s", "s.json", 1, "x0", "best")
    assert checks.dataset_consistent([row], {"x"}).passed
    assert "x have left" in checks.dataset_consistent([row], {"y"}).text
    assert "do not end" in checks.dataset_consistent([replace(row, response="other")], {"x"}).text
    entries = [
        CatalogEntry(name, "000001-s", 0, "s.json", 1, live) for name, live in (("x", True), ("y", True), ("z", False))
    ]
    found = checks.every_seed([row], [], entries)
    assert (found.passed, found.values["missing"]) == (False, 1)
    assert "000001-s" in found.text
    assert checks.every_seed([row], [], entries[:1]).passed


def test_rows_left_out_on_purpose_are_not_missing_and_an_empty_data_set_is_said():
    entries = [CatalogEntry(name, "000001-s", 0, "s.json", 1, True) for name in "xy"]
    gone = [LeftOutRow(name, "000001-s", f"c{name}", "min_pi", "said") for name in "xy"]
    found = checks.every_seed([], gone, entries)
    assert (found.passed, found.values) == (True, {"missing": 0, "left_out": 2})
    assert checks.every_seed([], gone[:1], entries).values == {"missing": 1, "left_out": 1}
    assert checks.not_empty([], []).passed
    assert "all 2 rows were left out (2 by min_pi)" in checks.not_empty([], gone).text
    assert not checks.not_empty([], gone).passed


def domain(seed, number, name, leader=None):
    return TaskDomain(seed, f"c-{seed}", "k", number, name, None, None, leader or seed)


DOMAINS = [domain("a", 0, "bread"), domain("b", 0, "bread", "a"), domain("c", 1, "code")]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([domain("a", 1, "x"), domain("b", 1, "x"), domain("c", 0, "y")], "not 0, 1, … by size"),
        ([domain("a", 0, "x"), domain("c", 2, "y")], "not 0, 1, … by size"),
        ([domain("a", 0, "x"), domain("c", 1, "x")], "share a name"),
        ([domain("a", 0, "")], "has none"),
        ([domain("a", 0, "x"), domain("b", 0, "x", "gone")], "b are near-duplicates"),
        ([domain("a", 0, "x", "b"), domain("b", 0, "x", "c"), domain("c", 0, "x")], "a are near-duplicates"),
    ],
)
def test_domains_that_do_not_hold_together_are_named(rows, said):
    finding = checks.domains_consistent(rows)
    assert not finding.passed
    assert said in finding.text


def test_domains_that_hold_together_pass_and_many_near_duplicates_are_a_warning():
    assert checks.domains_consistent(DOMAINS).passed
    assert checks.domains_consistent([]).passed
    finding = checks.near_duplicate_share(
        [*DOMAINS[:1], *(domain(f"d{n}", 0, "bread", "a") for n in range(12))], SHARES
    )
    assert not finding.passed
    assert "12 of 13 rows ask nearly the same" in finding.text
